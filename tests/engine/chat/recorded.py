"""Answers and what Ollama's own parsers make of them, recorded; collected by tests/test_chat_cases.py.

Each piece must say the same, with these exceptions:

- The same may be said earlier or later, and with other whitespace: whether Ollama keeps whitespace around a tag
  depends on what happens to come in the same piece; here that never matters.
- Text that Ollama swallows, because it began like a call and was none, is given back as content.
- The words of Go's XML reader are not imitated.
- Defects of the generic parser are not followed: a call without arguments is a call, and a name that stands in
  another call's arguments is none.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from engine.api import Message
from engine.chat.output import NAMED, MalformedCall, OutputParser, ParseContext, ToolSet, template_format
from engine.chat.output.reasoning import ThinkingSplitter
from modelfile.conversation import Tool
from modelfile.gotemplate import ChatTemplate, Conversation, infer_think_tags, tool_tag
from tests.engine.chat.reading import joined, steps
from tests.tools import tools_of

FILE = Path(os.environ.get("PRONK_CHAT_CASES") or Path(__file__).parents[2] / "data" / "chat-format-cases.json")
CASES: dict[str, Any] = json.loads(FILE.read_text(encoding="utf-8"))
TOOL_CASES: dict[str, Any] = CASES.get("tool_parser") or {"cases": [], "tools": []}


class Step(NamedTuple):
    """What one piece of an answer says. Numbers in calls are compared as Go's float64."""

    thinking: str
    content: str
    calls: list[tuple[int, str, Any]] = []  # noqa: RUF012 - never changed
    error: str = ""


def read(parser: OutputParser, chunks: list[str]) -> list[Step]:
    """What a parser makes of the pieces, the last of them final."""
    return [_step(parser, chunk, final=at == len(chunks) - 1) for at, chunk in enumerate(chunks)]


def _step(parser: OutputParser, chunk: str, final: bool) -> Step:
    deltas, error = [], ""
    try:
        deltas.extend(parser.feed(chunk, final))
    except MalformedCall as fault:
        error = str(fault)
    parsed = joined(deltas)
    calls = [(call.index, call.name, floats(call.arguments)) for call in parsed.tool_calls]
    return Step(parsed.thinking, parsed.content, calls, error)


def recorded(step: dict[str, Any]) -> Step:
    """A step as the file has it."""
    calls = [call["function"] for call in step.get("calls") or step.get("tool_calls") or []]
    return Step(
        step.get("thinking", ""),
        step["content"],
        [(call["index"], call["name"], floats(call["arguments"])) for call in calls],
        step.get("err") or "",
    )


def floats(value: Any) -> Any:
    """A JSON value with all numbers as floats."""
    if isinstance(value, dict):
        return {key: floats(item) for key, item in value.items()}
    if isinstance(value, list):
        return [floats(item) for item in value]
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


def total(parsed: Iterable[Step]) -> Step:
    """All steps as one, up to the first error: that ends an answer."""
    thinking, content, calls, error = "", "", [], ""
    for step in parsed:
        thinking, content, calls, error = (
            thinking + step.thinking,
            content + step.content,
            calls + step.calls,
            step.error,
        )
        if error:
            break
    return Step(thinking, content, calls, error)


def assert_same(ours: list[Step], theirs: list[Step], swallowed: str) -> None:
    """Compare; `swallowed` is what Ollama has read and not said."""
    if ours == theirs:
        return
    got, expected = total(ours), total(theirs)
    assert got.calls == expected.calls
    assert got.error == expected.error or (got.error and "XML" in expected.error)
    for text, parsed in ((got.thinking, expected.thinking), (got.content, expected.content)):
        assert bare(text).startswith(bare(parsed))
        assert bare(text)[len(bare(parsed)) :] in bare(swallowed)


def bare(text: str) -> str:
    """A text without its whitespace."""
    return "".join(text.split())


@pytest.mark.parametrize("case", CASES.get("thinking_parser", []), ids=lambda case: "|".join(case["chunks"]))
def test_thinking(case: dict[str, Any]) -> None:
    parsed = [(delta.thinking, delta.content) for delta in steps(ThinkingSplitter(), case["chunks"])]
    assert [list(step) for step in parsed[:-1]] == case["steps[thinking,content]"]


@pytest.mark.parametrize("case", TOOL_CASES["cases"], ids=lambda case: case["name"])
def test_generic_calls(case: dict[str, Any]) -> None:
    context = ParseContext(ToolSet(map(Tool, TOOL_CASES["tools"])))
    ours = read(OutputParser(template_format(case["tag"]), context), [*case["chunks"], ""])
    theirs = [*map(recorded, case["steps"]), Step("", case["final_content"])]
    objects = list(_objects("".join(case["chunks"])))
    if case["tag"] == "{" or all("arguments" in parsed and parsed["name"] in context.tools for parsed in objects):
        assert_same(ours, theirs, "" if total(theirs).calls else case["buffer"])
        return
    calls = [
        (parsed["name"], floats(parsed.get("arguments", {}))) for parsed in objects if parsed["name"] in context.tools
    ]
    assert total(ours).calls == [(at, *call) for at, call in enumerate(calls)]
    assert bool(total(ours).content) == (len(calls) < len(objects))


def _objects(text: str) -> Iterator[dict[str, Any]]:
    """The objects with a name in a text, where Ollama's parser has its defects."""
    at = text.find("{")
    while at >= 0:
        try:
            value, end = json.JSONDecoder().raw_decode(text, at)
        except ValueError:
            value, end = {}, at + 1
        if "name" in value:
            yield value
        at = text.find("{", end)


UNSET_MEANS_OFF = ("cogito", "deepseek3", "gemma4", "gemma4-no-thinking", "laguna", "lfm2-thinking", "poolside-v1")
"""Parsers that do not expect reasoning when a request says nothing; through the API it always says something."""


def named_context(source: dict[str, Any]) -> ParseContext:
    """The request of a case with a parser's name."""
    think = source.get("Think")
    messages = source.get("Messages") or []
    last = Message(messages[-1]["role"], messages[-1].get("content", "")) if messages else None
    return ParseContext(
        ToolSet(tools_of(source.get("Tools") or ())),
        source["Name"] not in UNSET_MEANS_OFF if think is None else think,
        last,
    )


def _case_id(case: dict[str, Any]) -> str:
    return f"{case['input']['Name']}: {'|'.join(case['input']['Chunks'])}"[:80]


@pytest.mark.parametrize("case", CASES.get("builtin_parsers", []), ids=_case_id)
def test_named_parsers(case: dict[str, Any]) -> None:
    source = case["input"]
    format = NAMED[source["Name"]]
    assert [format.tools, format.thinking] == case["caps[tools,thinking]"]
    assert set(format.preserved) == set(case["preserved"] or ())
    theirs = [recorded(step) for step in case["steps"]]
    assert_same(read(OutputParser(format, named_context(source)), source["Chunks"]), theirs, "".join(source["Chunks"]))


@pytest.mark.parametrize("case", CASES.get("chat_events", []), ids=lambda case: case["name"])
def test_events_of_a_chat(case: dict[str, Any]) -> None:
    source = case["input"]
    ours = read(_chat_parser(source), source["Chunks"])
    theirs = [recorded(event) for event in case["events"]]
    if "upstream duplicates" in case["name"]:
        theirs = theirs[:-1]
    swallowed = "" if total(theirs).calls else "".join(source["Chunks"])
    assert_same(_without_silence(ours), _without_silence(theirs), swallowed)


def _chat_parser(source: dict[str, Any]) -> OutputParser:
    if source.get("Name"):
        return OutputParser(NAMED[source["Name"]], named_context(source))
    template = ChatTemplate.parse(source["Template"])
    messages = [Message(message["role"], message["content"]) for message in source["Messages"]]
    prompt = template.render(Conversation(messages=messages, think=source.get("Think")))
    format = template_format(tool_tag(template.template), infer_think_tags(template.template))
    return OutputParser(
        format, ParseContext(ToolSet(tools_of(source.get("Tools") or ())), bool(source.get("Think")), None, prompt)
    )


def _without_silence(parsed: list[Step]) -> list[Step]:
    """Steps that say something, the events of a stream."""
    return [step for step in parsed if step != Step("", "")]
