"""Mistral's calls, old and new."""

from __future__ import annotations

from typing import Any

import pytest

from engine.api import Delta
from engine.chat.output import Format, MalformedCall, OutputParser, ParseContext
from engine.chat.output.mistral import Mistral
from tests.engine.chat.reading import CONTEXT, answer, parsed, steps

ADD = '{"name": "add", "arguments": {"a": [1]}}'
CALL = ("add", {"a": [1]})


@pytest.mark.parametrize(
    ("text", "content", "calls"),
    [
        ('Hi \n[TOOL_CALLS]add[ARGS]{"a": [1]}', "Hi", [CALL]),
        ('[TOOL_CALLS]add{"a": [1]}', "", [CALL]),
        ('[TOOL_CALLS] add [ARGS] {"a": [1]} bye', " bye", [CALL]),
        ('[TOOL_CALLS]add[ARGS]{"a": [1]}[TOOL_CALLS]now[ARGS]{}', "", [CALL, ("now", {})]),
        (f"[TOOL_CALLS] [{ADD}]", "", [CALL]),
        (f"[TOOL_CALLS][{ADD},\n {ADD}] bye", " bye", [CALL, CALL]),
        (f"[TOOL_CALLS]{ADD}", "", [CALL]),
        (f"[TOOL_CALLS][{ADD}, oops", " oops", [CALL]),
        ("[TOOL_CALLS] is a tag", "[TOOL_CALLS] is a tag", []),
        ("[TOOL_CALLS] is a tag {", "[TOOL_CALLS] is a tag {", []),
        ('[TOOL_CALLS]add[ARGS]{"a": ', '[TOOL_CALLS]add[ARGS]{"a": ', []),
        ("[TOOL_CALLS]x[TOOL_CALLS]now{}", "[TOOL_CALLS]x", [("now", {})]),
    ],
)
def test_calls(text: str, content: str, calls: list[Any]) -> None:
    assert parsed(Mistral(), text) == (content, "", calls)
    assert parsed(Mistral(strict=True), text) == (content, "", calls)


def test_an_id_of_the_models_own_is_kept() -> None:
    parser = OutputParser(Format(Mistral()), CONTEXT)
    (call,) = answer(parser, ['[TOOL_CALLS]add[CALL_ID]Ab1cD2eF3[ARGS]{"a": 1}']).tool_calls
    assert (call.id, call.name, call.arguments) == ("Ab1cD2eF3", "add", {"a": 1})


@pytest.mark.parametrize(
    ("call", "fault"),
    [
        ("nope[ARGS]{}", "tool 'nope' not found"),
        ('[{"name": "nope"}]', "tool 'nope' not found"),
        ("add[ARGS]{1}", "invalid character '1' looking for beginning of object key string"),
    ],
)
def test_strict(call: str, fault: str) -> None:
    with pytest.raises(MalformedCall) as caught:
        parsed(Mistral(strict=True), f"[TOOL_CALLS]{call}")
    assert str(caught.value) == fault


def test_not_strict() -> None:
    assert parsed(Mistral(), "[TOOL_CALLS]nope[ARGS]{}") == ("", "", [("nope", {})])
    assert parsed(Mistral(), "[TOOL_CALLS]add[ARGS]{1} x") == ("[TOOL_CALLS]add[ARGS]{1} x", "", [])


def test_thinking() -> None:
    assert parsed(Mistral(), "[THINK]hm [/THINK]\n yes") == ("yes", "hm ", [])
    assert parsed(Mistral(), "hm[/THINK]yes", ParseContext(prompt="…[THINK]")) == ("yes", "hm", [])


def test_calls_of_an_array_are_emitted_one_by_one() -> None:
    parser = OutputParser(Format(Mistral()), CONTEXT)
    assert list(steps(parser, ["[TOOL_CALLS][", ADD, ", ", ADD, "]"]))[4] == Delta()
    parser = OutputParser(Format(Mistral()), CONTEXT)
    assert [len(delta.tool_calls) for delta in steps(parser, ["[TOOL_CALLS][", ADD, ", ", ADD, "]"])] == [
        0,
        1,
        0,
        1,
        0,
        0,
    ]
