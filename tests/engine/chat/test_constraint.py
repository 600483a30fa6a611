"""Which grammar a request's answer gets."""

from __future__ import annotations

import json

import pytest

from engine.chat.constraint import content_constraint
from engine.chat.tape import Script, Tape
from engine.chat.tools import NAMED, Format, Shape, Turn, native_format
from engine.errors import InvalidRequest
from engine.messages import Grammar
from engine.requests import Message

ANYTHING = "{}"


def read(tape: Tape, turn: Turn) -> Script[None]:
    yield None


PLAIN = Format(read)
TAGS = Format(read, preserved=("<call>",), shape=Shape(("<think>", "</think>")))


def start(grammar: Grammar) -> str:
    """The first rule, its marks spelled out."""
    rule = grammar.rules.partition("\n")[0]
    for number, mark in reversed(list(enumerate(grammar.marks))):
        rule = rule.replace(f"mark_{number}", mark).replace(f"until_{number}", f"…{mark}")
    return " ".join(rule.split())


def test_content_without_reasoning() -> None:
    grammar = content_constraint(ANYTHING, PLAIN).grammar(Turn())
    assert start(grammar) == "start: answer"
    assert "answer:  content\ncontent: %json {" in grammar.rules
    assert grammar.marks == ()


@pytest.mark.parametrize(
    ("turn", "rule"),
    [
        (Turn(think=True, prompt="Hi"), "start: (<think> …</think> GAP?)? answer"),
        (Turn(think=False, prompt="Hi"), "start: answer"),
        (Turn(think=True, prompt="Hi<think>\n"), "start: …</think> GAP? answer"),
        (Turn(think=False, prompt="Hi<think>\n"), "start: …</think> GAP? answer"),
        (Turn(think=False, prompt="Hi<think>\n\n</think>\n\n"), "start: answer"),
        (Turn(think=True, prompt="So", last=Message("assistant", "So")), "start: content"),
    ],
)
def test_reasoning_before_it(turn: Turn, rule: str) -> None:
    assert start(content_constraint(ANYTHING, TAGS).grammar(turn)) == rule


def test_harmony_has_a_header_for_everything() -> None:
    constraint = content_constraint(ANYTHING, NAMED["harmony"])
    grammar = constraint.grammar(Turn(prompt="<|start|>assistant"))
    marks = grammar.marks
    analysis = f'(mark_{marks.index("<|channel|>")} "analysis" mark_{marks.index("<|message|>")}'
    after = f'until_{marks.index("<|end|>")} mark_{marks.index("<|start|>")} "assistant" GAP?)? answer'
    assert grammar.rules.startswith(f"start: {analysis} {after}\n")
    final = f'mark_{marks.index("<|channel|>")} "final" mark_{marks.index("<|message|>")} content'
    assert f"answer: {final}\n" in grammar.rules
    assert start(constraint.grammar(Turn(last=Message("assistant", "So")))) == "start: content"


def test_json_is_any_object() -> None:
    rules = content_constraint('"json"', PLAIN).rules
    assert json.loads(rules.partition("content: %json ")[2])["type"] == "object"


@pytest.mark.parametrize("wanted", ['"xml"', "7", "null", "[]", '"JSON"'])
def test_what_is_no_format(wanted: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        content_constraint(wanted, PLAIN)
    assert str(caught.value) == (f'invalid format: {json.dumps(wanted)}; expected "json" or a valid JSON Schema object')


@pytest.mark.parametrize(
    ("wanted", "why"),
    [
        ('{"items":' * 500 + "{}" + "}" * 500, "it is nested too deeply"),
        ('{"items":' * 5_000 + "{}" + "}" * 5_000, "it is nested too deeply"),
        (json.dumps({"enum": ["x" * 300_000]}), "it is too large: at most 262144 characters are accepted"),
    ],
)
def test_what_is_too_much(wanted: str, why: str) -> None:
    with pytest.raises(InvalidRequest, match=f"^invalid format: {why}$"):
        content_constraint(wanted, PLAIN)


def test_tags_of_a_chat_template() -> None:
    template = "{{ tools }}<tool_call></tool_call><think></think>"
    constraint = content_constraint(ANYTHING, native_format(template))
    assert start(constraint.grammar(Turn(prompt="Hi"))) == "start: (<think> …</think> GAP?)? answer"
