"""Calls written as elements: Qwen, Seed, GLM, MiniMax, DeepSeek, Muse, MiniCPM, Kimi K3."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from engine.chat.output import MalformedCall, ParseContext, ToolSet
from engine.chat.output.markup import (
    ATEM,
    DSML_CALLS,
    GLM,
    MINICPM,
    MINIMAX,
    QWEN_XML,
    SEED_XML,
    THINK,
    Markup,
    read_kimi3,
)
from tests.engine.chat.reading import TOOLS, parsed

QWEN = "<tool_call>\n<function=get_weather>\n<parameter=city>\n{}\n</parameter>\n</function>\n</tool_call>"
EXAMPLES = [
    (
        QWEN_XML,
        "<tool_call>\n<function=get_weather>\n<parameter=city>\nSan <b> & Francisco\n</parameter>\n"
        "<parameter=days>\n3\n</parameter>\n</function>\n</tool_call>",
    ),
    (
        SEED_XML,
        "<seed:tool_call>\n<function=get_weather>\n<parameter=city>San <b> & Francisco</parameter>\n"
        "<parameter=days>3</parameter>\n</function>\n</seed:tool_call>",
    ),
    (
        GLM,
        "<tool_call>get_weather\n<arg_key>city</arg_key>\n<arg_value>San <b> & Francisco</arg_value>\n"
        "<arg_key>days</arg_key>\n<arg_value>3</arg_value>\n</tool_call>",
    ),
    (
        MINIMAX,
        '<minimax:tool_call>\n<invoke name="get_weather">\n<parameter name="city">San <b> & Francisco</parameter>\n'
        '<parameter name="days">3</parameter>\n</invoke>\n</minimax:tool_call>',
    ),
    (
        DSML_CALLS,
        '<｜DSML｜function_calls>\n<｜DSML｜invoke name="get_weather">\n'
        '<｜DSML｜parameter name="city" string="true">San <b> & Francisco</｜DSML｜parameter>\n'
        '<｜DSML｜parameter name="days" string="false">3</｜DSML｜parameter>\n'
        "</｜DSML｜invoke>\n</｜DSML｜function_calls>",
    ),
    (
        ATEM,
        '<atem:function_calls>\n<atem:invoke name="get_weather">\n'
        '<atem:parameter name="city">San <b> & Francisco</atem:parameter>\n'
        '<atem:parameter name="days">3</atem:parameter>\n</atem:invoke>\n</atem:function_calls>',
    ),
    (
        MINICPM,
        '<function name="get_weather"><param name="city"><![CDATA[San <b> & Francisco]]></param>'
        '<param name="days">3</param></function>',
    ),
]
CALL = ("get_weather", {"city": "San <b> & Francisco", "days": 3})


@pytest.mark.parametrize(("format", "block"), EXAMPLES, ids=[format.opening for format, _ in EXAMPLES])
def test_a_call_between_texts(format: Markup, block: str) -> None:
    assert parsed(format, f"ok\n\n{block}") == ("ok", "", [CALL])
    assert parsed(format, f"{block}\n{block}") == ("", "", [CALL, CALL])
    assert parsed(replace(format, trim_after=True), f"{block}\nso") == ("so", "", [CALL])


@pytest.mark.parametrize(("format", "block"), EXAMPLES, ids=[format.opening for format, _ in EXAMPLES])
def test_an_answer_that_stops_before_the_last_tag(format: Markup, block: str) -> None:
    whole = block.removesuffix(format.closing)
    assert parsed(format, whole) == ("", "", [CALL])
    cut = whole[: whole.rindex("3")]
    assert parsed(format, cut) == (cut, "", [])  # half a call is never made


@pytest.mark.parametrize(
    ("body", "calls"),
    [
        ("<function=now>\n</function>", [("now", {})]),
        ("<function=now></function><function=now></function>", [("now", {}), ("now", {})]),
        ("<function=add>\n<parameter=a>\n1\n<parameter=b>\n2\n</function>", [("add", {"a": 1, "b": 2})]),
        ("<function=add>\n<parameter=a>\n1\n</parameter>", [("add", {"a": 1})]),
        ("<function=f>\n<parameter=x>\n\n two \n\n</parameter>\n</function>", [("f", {"x": "\n two \n"})]),
        ("<function=f><parameter=x>null</parameter></function>", [("f", {"x": None})]),
        ('{"name": "add", "arguments": {"a": 1}}', [("add", {"a": 1})]),
    ],
)
def test_qwen(body: str, calls: list[Any]) -> None:
    assert parsed(QWEN_XML, f"<tool_call>{body}</tool_call>") == ("", "", calls)


@pytest.mark.parametrize(
    ("body", "calls"),
    [
        ("now", [("now", {})]),
        ("now\n", [("now", {})]),
        ("add<arg_key>a</arg_key><arg_value>1</arg_value>", [("add", {"a": 1})]),
        ("add<arg_key>a<arg_value>1<arg_key>b</arg_key><arg_value>2", [("add", {"a": 1, "b": 2})]),
        ("add\n<arg_key> a </arg_key>\n<arg_value>\n1\n</arg_value>", [("add", {"a": 1})]),
        ('{"name": "add", "arguments": {"a": 1}}', [("add", {"a": 1})]),
    ],
)
def test_glm(body: str, calls: list[Any]) -> None:
    assert parsed(GLM, f"<tool_call>{body}</tool_call>") == ("", "", calls)


def test_a_value_that_says_what_it_is() -> None:
    block = (
        '<｜DSML｜function_calls><｜DSML｜invoke name="f"><｜DSML｜parameter name="x" string="{}">{}'
        "</｜DSML｜parameter></｜DSML｜invoke></｜DSML｜function_calls>"
    )
    assert parsed(DSML_CALLS, block.format("false", '{"y": [1]}')) == ("", "", [("f", {"x": {"y": [1]}})])
    assert parsed(DSML_CALLS, block.format("true", "[1]")) == ("", "", [("f", {"x": "[1]"})])


@pytest.mark.parametrize("format", [QWEN_XML, GLM])
def test_a_block_without_a_call(format: Markup) -> None:
    text = "a<tool_call>not a call</tool_call> b"
    assert parsed(format, text) == (text, "", [])
    with pytest.raises(MalformedCall, match="what is this"):
        parsed(replace(format, complaint="what is this"), text)


K3_CALL = (
    '<|open|>call tool="get_weather" index="1"<|sep|>'
    '<|open|>argument key="city" type="string"<|sep|>Paris<|close|>argument<|sep|>'
    '<|open|>argument key="tags" type="array"<|sep|>["a"]<|close|>argument<|sep|>'
    "<|close|>call<|sep|>"
)
K3_ARGUMENTS = {"city": "Paris", "tags": ["a"]}
K3_CONTEXT = ParseContext(ToolSet(TOOLS), prompt=f"…{THINK}")


def test_kimi_k3() -> None:
    text = (
        "hm<|close|>think<|sep|><|open|>response<|sep|>Yes.<|close|>response<|sep|>"
        f"<|open|>tools<|sep|>{K3_CALL}{K3_CALL}<|close|>tools<|sep|><|close|>message<|sep|>"
    )
    assert parsed(read_kimi3, text, K3_CONTEXT) == ("Yes.", "hm", [("get_weather", K3_ARGUMENTS)] * 2)


def test_kimi_k3_without_thinking() -> None:
    text = "<|open|>response<|sep|>Yes.<|close|>response<|sep|><|close|>message<|sep|>"
    assert parsed(read_kimi3, text) == ("Yes.", "", [])
    assert parsed(read_kimi3, text.removeprefix("<|open|>response<|sep|>")) == ("Yes.", "", [])
