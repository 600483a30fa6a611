"""Answers put together from each format's specification: its grammar allows them, and its reader reads them."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from engine.api import ChatRequest, NamedTool
from engine.chat.grammar.constraint import Constraint, chat_constraint, content_constraint
from engine.chat.output import NAMED, Format, ParseContext, ToolSet, native_format, template_format
from engine.chat.output.format import BLANK, KIND, LINE, NUMBER, ArgumentSpec, ReasoningMode, ToolCallSpec, Values
from engine.messages import Grammar
from engine.runner.grammar import Grammars
from engine.runner.grammar_check import BYTES, ByteVocabulary
from engine.runner.matcher import Matcher
from tests.engine.chat.output.test_detect import EXCERPTS
from tests.engine.chat.reading import TOOLS, parsed, tool

TAGS = ("{", "[", "<tool_call>", "[TOOL_CALLS] [", "```json", "functools[", "<|python_tag|>")
FORMATS = {
    **{f"named {name}": format for name, format in NAMED.items()},
    **{f"native {template}": native_format(template) for template, _ in EXCERPTS},
    "native with reasoning": native_format("<think>{{ reasoning }}</think> <tool_call>{{ tools }}"),
    "native fenced": native_format("<｜tool▁calls▁begin｜> ```json"),
    **{f"Go {tag}": template_format(tag) for tag in TAGS},
    "Go with reasoning": template_format("<tool_call>", ("<think>", "</think>")),
}
FORCED = {name: format for name, format in FORMATS.items() if format.spec.calls is not None}
SEVERAL = {name: format for name, format in FORCED.items() if format.spec.calls.separator is not None}
THINKING = {name: format for name, format in FORMATS.items() if format.spec.thinking[0]}
ARGUMENTS = {"get_weather": {"city": "Paris {]\nx", "days": 2}, "add": {"a": 1.5, "b": -2}, "now": {}}
GRAMMARS = Grammars(ByteVocabulary())


def forced(format: Format) -> Constraint:
    constraint = chat_constraint(ChatRequest(model="", tools=TOOLS, tool_choice="required"), TOOLS, format)
    assert constraint is not None
    return constraint


def after(grammar: Grammar, text: str) -> Matcher:
    """The grammar's state behind a text, which it must allow."""
    matcher = GRAMMARS.matcher(grammar)
    matcher.set_budget(4096)
    for at, byte in enumerate(text.encode()):
        assert byte in allowed(matcher), f"{text.encode()[:at]!r} may not go on with {bytes([byte])!r}"
        matcher.accept(byte)
    return matcher


def allowed(matcher: Matcher) -> list[int]:
    row = np.zeros(ByteVocabulary.size, np.float32)
    matcher.restrict(row)
    return np.flatnonzero(row == 0).tolist()


def may_end(matcher: Matcher) -> bool:
    return matcher.finished or BYTES in allowed(matcher)


def shortest(grammar: Grammar, begun: str = "") -> str:
    """A short text of the grammar."""
    matcher, text = after(grammar, begun), begun.encode()
    while not matcher.finished:
        assert matcher.leave_loop()
        (byte,) = allowed(matcher)
        if byte == BYTES:
            break
        text += bytes([matcher.accept(byte)])
    return text.decode()


def written(format: Format, *names: str) -> str:
    """These calls, in the format's words."""
    spec = format.spec.calls
    assert spec is not None
    known = spec.aliases([each.name for each in TOOLS])
    calls = [f"{spec.prefix(known[name])}{arguments(spec, ARGUMENTS[name])}{spec.closing}" for name in names]
    return spelled(spec.before + (spec.separator or "").join(calls) + spec.after)


def arguments(spec: ToolCallSpec, values: dict[str, Any]) -> str:
    """Arguments, in the format's words."""
    if (form := spec.arguments) is None:
        return json.dumps(values)
    ends = {name: form.affixes(name) for name in sorted(values)}
    kinds = {str: "string", float: "number", int: "integer"}
    return form.separator.join(
        ends[name][0].replace(KIND, form.kind(kinds[type(values[name])])) + value(form, values[name]) + ends[name][1]
        for name in ends
    )


def value(form: ArgumentSpec, value: Any) -> str:
    quote = {Values.JSON: None, Values.BARE: "", Values.QUOTED: form.quote}[form.values]
    return json.dumps(value) if quote is None or not isinstance(value, str) else f"{quote}{value}{quote}"


def spelled(text: str) -> str:
    """A specification's text, with its placeholders filled in."""
    return text.replace(NUMBER, "0").replace(BLANK, " ").replace(LINE, "\n")


def begun(format: Format, context: ParseContext) -> str:
    """The reasoning that an answer begins with where its reader takes the beginning for reasoning."""
    thinks = format.spec.reasoning_mode(context) is ReasoningMode.BEGUN
    return f"so {{be}} it\n{format.spec.thinking[1]}\n" if thinks else ""


PLAIN = ParseContext(ToolSet(TOOLS), think=False)


@pytest.mark.parametrize("name", FORCED)
@pytest.mark.parametrize("function", ARGUMENTS)
def test_a_call_is_allowed_and_read(name: str, function: str) -> None:
    format = FORCED[name]
    text = begun(format, PLAIN) + written(format, function)
    assert may_end(after(forced(format).grammar(PLAIN), text))
    content, _, calls = parsed(format, text, PLAIN)
    assert (content, calls) == ("", [(function, ARGUMENTS[function])])


@pytest.mark.parametrize("name", SEVERAL)
def test_several_calls_are_allowed_and_read(name: str) -> None:
    format = SEVERAL[name]
    text = begun(format, PLAIN) + written(format, *ARGUMENTS)
    assert may_end(after(forced(format).grammar(PLAIN), text))
    content, _, calls = parsed(format, text, PLAIN)
    assert (content, calls) == ("", list(ARGUMENTS.items()))


@pytest.mark.parametrize("name", FORCED)
def test_the_shortest_answer_is_a_call(name: str) -> None:
    format = FORCED[name]
    text = shortest(forced(format).grammar(PLAIN), begun(format, PLAIN))
    content, _, calls = parsed(format, text, PLAIN)
    assert content == ""
    assert [called for called, _ in calls] in [[each.name] for each in TOOLS]


@pytest.mark.parametrize("name", THINKING)
@pytest.mark.parametrize("prompt", ["Hi", "opened"])
def test_reasoning_is_allowed_and_read(name: str, prompt: str) -> None:
    format = THINKING[name]
    opening, closing = format.spec.thinking
    context = ParseContext(think=True, prompt=opening if prompt == "opened" else prompt)
    reasoning_mode = format.spec.reasoning_mode(context)
    if prompt == "opened" and (name == "named lfm2-thinking" or "<|message|>" in opening):
        pytest.skip("no prompt of this format opens a block")
    assert reasoning_mode is not ReasoningMode.NONE
    start = opening if reasoning_mode is ReasoningMode.ALLOWED else ""
    text = shortest(content_constraint('"json"', format).grammar(context), f"{start}so {{be}} it\n{closing}\n")
    content, thinking, _ = parsed(format, text, context)
    assert (thinking.strip(), isinstance(json.loads(content), dict)) == ("so {be} it", True)


@pytest.mark.parametrize("name", sorted({*THINKING} & {*FORCED}))
def test_a_call_behind_reasoning(name: str) -> None:
    format = FORCED[name]
    opening, closing = format.spec.thinking
    context = ParseContext(ToolSet(TOOLS), think=True)
    reasoning_mode = format.spec.reasoning_mode(context)
    start = {ReasoningMode.ALLOWED: f"{opening}so\n{closing}\n", ReasoningMode.BEGUN: f"so\n{closing}\n"}.get(
        reasoning_mode, ""
    )
    content, thinking, calls = parsed(format, shortest(forced(format).grammar(context), start), context)
    assert (content, thinking.strip(), len(calls)) == ("", "so" if start else "", 1)


@pytest.mark.parametrize("name", FORMATS)
def test_content_is_allowed_and_read(name: str) -> None:
    format = FORMATS[name]
    before = begun(format, PLAIN)
    text = shortest(content_constraint('{"const": {"a": [1, "x"]}}', format).grammar(PLAIN), before)
    assert text[len(before) :].startswith(format.spec.content)
    assert json.loads(parsed(format, text, PLAIN)[0]) == {"a": [1, "x"]}


def test_functions_whose_names_are_alike_to_the_model() -> None:
    format, tools = NAMED["harmony"], (tool("get time"), tool("get-time"))
    asked = ParseContext(ToolSet(tools), think=False)
    for name in ("get time", "get-time"):
        request = ChatRequest(model="", tools=tools, tool_choice=NamedTool(name))
        constraint = chat_constraint(request, tools, format)
        assert constraint is not None
        assert parsed(format, shortest(constraint.grammar(asked)), asked) == ("", "", [(name, {})])


def test_reasoning_holds_no_call() -> None:
    format = NAMED["qwen3-thinking"]
    matcher = after(forced(format).grammar(ParseContext(ToolSet(TOOLS))), "I could <tool_call")
    assert ord(">") not in allowed(matcher)


def test_what_cannot_be_forced() -> None:
    assert {name for name in FORMATS if name not in FORCED} == {"named olmo3-think", "named passthrough"}
