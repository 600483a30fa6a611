"""Formats told by a chat template, each shown by an excerpt of one."""

from __future__ import annotations

from typing import Any

import pytest

from engine.chat.output import ParseContext, ToolSet, native_format
from tests.engine.chat.reading import TOOLS, parsed

JSON = '{"name": "add", "arguments": {"a": 1}}'
ACTION = '<|START_ACTION|>[{"tool_name": "add", "parameters": {"a": 1}}]<|END_ACTION|>'
CALL = ("add", {"a": 1})

EXCERPTS = [
    ("[SYSTEM_PROMPT] [AVAILABLE_TOOLS] [TOOL_CALLS] {{ name }}[ARGS]", '[TOOL_CALLS]add[ARGS]{"a": 1}'),
    ("[TOOL_CALLS] {{ name }}[CALL_ID]{{ id }}[ARGS] [SYSTEM_PROMPT]", '[TOOL_CALLS]add[CALL_ID]abc[ARGS]{"a": 1}'),
    ("[AVAILABLE_TOOLS] [TOOL_CALLS] [{{ tool_call }}]", f"[TOOL_CALLS] [{JSON}]"),
    ("<|start|>assistant<|channel|>analysis tools", '<|channel|>commentary to=functions.add<|message|>{"a": 1}'),
    (
        "<|eom|> <atem:function_calls>",
        ' to=add<|message|><atem:function_calls><atem:invoke name="add"><atem:parameter name="a">1</atem:parameter>'
        "</atem:invoke></atem:function_calls><|eom|>",
    ),
    (">>>all {{ '>>>${recipient}' }}", 'add\n{"a": 1}'),
    (
        "<|tool_calls_section_begin|><|tool_call_begin|>{{ id }}",
        "<|tool_calls_section_begin|><|tool_call_begin|>functions.add:0<|tool_call_argument_begin|>"
        '{"a": 1}<|tool_call_end|><|tool_calls_section_end|>',
    ),
    (
        "<|open|>tools<|sep|><|close|><|end_of_msg|>",
        '<|open|>tools<|sep|><|open|>call tool="add" index="1"<|sep|><|open|>argument key="a" type="number"<|sep|>1'
        "<|close|>argument<|sep|><|close|>call<|sep|><|close|>tools<|sep|>",
    ),
    (
        "<|think|> <|tool_call:begin|>{{ id }}<|tool_call:name|>{{ name }}<|tool_call:args|>",
        "<|tool_calls|><|tool_call:begin|>a1b2c3d4e5<|tool_call:name|>add<|tool_call:args|>"
        '{"a": 1}<|tool_call:end|><|calls|>',
    ),
    (
        "{% set HYTK = ':opensource' %} {{ '<arg_key{}>'.format(HYTK) }}",
        "<tool_calls:opensource>\n<tool_call:opensource>add<tool_sep:opensource>\n"
        "<arg_key:opensource>a</arg_key:opensource>\n<arg_value:opensource>1</arg_value:opensource>\n"
        "</tool_call:opensource>\n</tool_calls:opensource>",
    ),
    (
        "<role>ASSISTANT</role><tool_call><arg_key>",
        "<tool_call>add<arg_key>a</arg_key><arg_value>1</arg_value></tool_call>",
    ),
    ("<|START_TEXT|> <|START_ACTION|>", ACTION),
    ("<|START_RESPONSE|> <|START_ACTION|>", ACTION),
    ("List of tools: <|tool_list_start|>[<|tool_list_end|>", "<|tool_call_start|>[add(a=1)]<|tool_call_end|>"),
    ("List of tools: [{{ tools }}]", "<|tool_call_start|>[add(a=1)]<|tool_call_end|>"),
    ("List of tools: {{ tools }} <|tool_call_start|>[", "[add(a=1)]"),
    (
        "function call<|role_sep|> <|message_sep|>",
        f"<|message_sep|>\n\nfunction call<|role_sep|>\n{JSON}<|message_sep|>",
    ),
    ("<|function_call|>{{ call }}<|message_sep|>", f"<|function_call|>{JSON}<|message_sep|>"),
    (
        "]<]minimax[>[ <tool_call> <invoke name=",
        ']<]minimax[>[<tool_call>]<]minimax[>[<invoke name="add">]<]minimax[>[<a>1]<]minimax[>[</a>'
        "]<]minimax[>[</invoke>]<]minimax[>[</tool_call>",
    ),
    (
        "{% set dsml_token = '｜DSML｜' %} function_calls",
        '<｜DSML｜function_calls><｜DSML｜invoke name="add"><｜DSML｜parameter name="a" string="false">1'
        "</｜DSML｜parameter></｜DSML｜invoke></｜DSML｜function_calls>",
    ),
    (
        "{% set dsml_token = '｜DSML｜' %} tool_calls",
        '<｜DSML｜tool_calls><｜DSML｜invoke name="add"><｜DSML｜parameter name="a" string="false">1'
        "</｜DSML｜parameter></｜DSML｜invoke></｜DSML｜tool_calls>",
    ),
    ("{{ '<|tool_call>call:' + name }}", "<|tool_call>call:add{a:1}<tool_call|>"),
    (
        'Tool usage guidelines: <function name="f"><param name="p">',
        '<function name="add"><param name="a">1</param></function>',
    ),
    (
        "<tool_call>\n<function=f>\n<parameter=p>",
        "<tool_call>\n<function=add>\n<parameter=a>\n1\n</parameter>\n</function>\n</tool_call>",
    ),
    ("<seed:tool_call>", "<seed:tool_call><function=add><parameter=a>1</parameter></function></seed:tool_call>"),
    (
        "<minimax:tool_call><invoke name=",
        '<minimax:tool_call><invoke name="add"><parameter name="a">1</parameter></invoke></minimax:tool_call>',
    ),
    ("<start_function_call>call:", "<start_function_call>call:add{a:1}<end_function_call>"),
    ("<tool_call>{{ name }}<arg_key>", "<tool_call>add\n<arg_key>a</arg_key>\n<arg_value>1</arg_value>\n</tool_call>"),
    (
        "<｜tool▁calls▁begin｜>",
        '<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>add<｜tool▁sep｜>{"a": 1}<｜tool▁call▁end｜><｜tool▁calls▁end｜>',
    ),
    ("<function_calls> tools", "<function_calls>add(a=1)</function_calls>"),
    ("<TOOLCALL>[", f"<TOOLCALL>[{JSON}]</TOOLCALL>"),
    ("<|tools_prefix|>", '<|tools_prefix|>[{"add": {"a": 1}}]<|tools_suffix|>'),
    ("<|tool_call|>[<|/tool_call|>", f"<|tool_call|>[{JSON}]<|/tool_call|>"),
    ("<|tool_call|>[", f"<|tool_call|>[{JSON}]"),
    ("<|action_start|><|plugin|>", f"<|action_start|><|plugin|>{JSON}<|action_end|>"),
    ("<tool_calls>[", f"<tool_calls>[{JSON}]</tool_calls>"),
    ("<tool_call>\n{{ tool_call }}", f"<tool_call>\n{JSON}\n</tool_call>"),
    ("Action: ```json tool_name", 'Action: ```json\n[{"tool_name": "add", "parameters": {"a": 1}}]```'),
    ("functools[{{ calls }}]", f" functools[{JSON}]"),
    ("Action:\n```json tool_name", 'Action:\n```json\n[{"tool_name": "add", "parameters": {"a": 1}}]```'),
    ("<function=f>{{ arguments }}", '<function=add>{"a": 1}</function>'),
    ("[func_name1(params_name1=1)]", "[add(a=1)]"),
    ("<|python_tag|> tools", '<|python_tag|>{"name": "add", "parameters": {"a": 1}}'),
    ("# 可用工具 {{ tools }}", 'add\n{"a": 1}'),
    ("{{ tools }}", JSON),
]


@pytest.mark.parametrize(("template", "answer"), EXCERPTS, ids=[template for template, _ in EXCERPTS])
def test_calls(template: str, answer: str) -> None:
    format = native_format(template)
    assert format.tools
    assert parsed(format, answer) == ("", "", [CALL])


@pytest.mark.parametrize(
    ("template", "thinks"),
    [
        ("<|channel|>analysis", True),
        ("[TOOL_CALLS][ARGS]", False),
        ("[TOOL_CALLS][ARGS][THINK][/THINK]", True),
        (">>>all >>>${recipient}", False),
        ("<|START_TEXT|><|START_ACTION|>", True),
        ("<|tool_call:begin|><|tool_call:args|>", True),
    ],
)
def test_who_thinks(template: str, thinks: bool) -> None:
    assert native_format(template).thinking is thinks


def test_solar_reasons_first() -> None:
    format = native_format("<|tool_call:begin|><|tool_call:args|>")
    text = "<|think|>hm<|end|><|begin|>assistant<|content|>yes<|end|>"
    assert parsed(format, text) == ("yes", "hm", [])


def test_hunyuan_reasons_in_tags_with_a_suffix() -> None:
    format = native_format("{% set HYTK = ':opensource' %} {{ '<arg_key{}>'.format(HYTK) }}")
    assert parsed(format, "<think:opensource>hm</think:opensource>yes") == ("yes", "hm", [])


def test_without_tools_text_that_looks_like_a_call_is_content() -> None:
    for template, answer in (("<tool_call>", f"<tool_call>{JSON}</tool_call>"), ("{{ tools }}", JSON)):
        assert parsed(native_format(template), answer, ParseContext()) == (answer, "", [])


@pytest.mark.parametrize(
    ("opening", "closing"),
    [("<think>", "</think>"), ("<seed:think>", "</seed:think>"), ("<|inner_prefix|>", "<|inner_suffix|>")],
)
def test_thinking(opening: str, closing: str) -> None:
    format = native_format(f"{opening}{{{{ reasoning }}}}{closing} <tool_call>")
    text = f"\nhm\n{closing}\n\n<tool_call>{JSON}</tool_call>"
    assert format.thinking
    assert {opening, closing} < set(format.preserved)
    assert parsed(format, f"{opening}{text}") == ("", "hm\n", [CALL])
    for prompt in (f"assistant\n{opening}", f"assistant\n{opening}\n"):
        assert parsed(format, text, ParseContext(ToolSet(TOOLS), prompt=prompt)) == ("", "hm\n", [CALL])
    assert parsed(format, f"{closing}\n\nyes") == ("yes", "", [])
    assert parsed(format, f"yes {closing}", ParseContext(think=False)) == (f"yes {closing}", "", [])


def test_reasoning_steps() -> None:
    format = native_format("Here are my reasoning steps: [BEGIN FINAL RESPONSE] <tool_calls>")
    text = f"hm\n[BEGIN FINAL RESPONSE]\n<tool_calls>[{JSON}]</tool_calls>"
    context = ParseContext(ToolSet(TOOLS), prompt="<|begin_assistant|>\nHere are my reasoning steps:\n")
    assert parsed(format, text, context) == ("", "hm\n", [CALL])


def test_a_template_that_knows_nothing_of_this() -> None:
    format = native_format("{% for message in messages %}{{ message.content }}{% endfor %}")
    assert (format.tools, format.thinking, format.preserved) == (False, False, ())
    assert parsed(format, f"<think><tool_call>{JSON}") == (f"<think><tool_call>{JSON}", "", [])


@pytest.mark.parametrize("template", [template for template, _ in EXCERPTS])
def test_plain_text_stays_plain(template: str) -> None:
    text: Any = "Hello! 1 < 2, {x} and [y], all of it\n\nis text."
    assert parsed(native_format(template), text)[::2] == (text, [])


@pytest.mark.parametrize(("template", "answer"), EXCERPTS, ids=[template for template, _ in EXCERPTS])
def test_half_a_call_is_never_made(template: str, answer: str) -> None:
    format = native_format(template)
    for length in range(len(answer)):
        assert parsed(format, answer[:length])[2] in ([], [CALL])
