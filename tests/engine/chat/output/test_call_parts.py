"""Arguments of calls that a grammar holds, emitted as they are written."""

from __future__ import annotations

import json
from collections.abc import Iterable
from itertools import count

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.api import CallPart, Delta
from engine.chat.output import Format, MalformedCall, OutputParser, ParseContext, ToolSet
from engine.chat.output.functionary import FUNCTION_TAGS
from tests.engine.chat.output.test_chunks import FORMATS as CHUNKED
from tests.engine.chat.output.test_chunks import answers
from tests.engine.chat.output.test_forced import DISTINCT
from tests.engine.chat.output.test_format_spec import ARGUMENTS, FORCED, PLAIN, SEVERAL, begun, written
from tests.engine.chat.reading import TOOLS, cut, joined

WHOLE = [FUNCTION_TAGS.spec.calls]  # its reader parses whole blocks
STREAMED = [
    name
    for name in DISTINCT
    if (spec := FORCED[name].spec.calls) is not None and spec.arguments is None and spec not in WHOLE
]


def read(format: Format, chunks: Iterable[str], context: ParseContext = PLAIN, *, held: bool = True) -> list[Delta]:
    ids = count(1)
    parser = OutputParser(format, context, lambda: f"id {next(ids)}", held=held)
    deltas = [delta for chunk in chunks for delta in parser.feed(chunk)]
    return [*deltas, *parser.feed("", final=True)]


def told(deltas: Iterable[Delta]) -> dict[int, tuple[str, str, str]]:
    """Id, name and text of the arguments of each call that has parts."""
    calls: dict[int, tuple[str, str, str]] = {}
    for part in (part for delta in deltas for part in delta.call_parts):
        if part.index not in calls:
            assert part == CallPart(part.index, id=part.id, name=part.name)
            assert part.id
            assert part.name
            calls[part.index] = (part.id, part.name, "")
        else:
            assert (part.id, part.name) == ("", "")
            assert part.arguments
            call_id, name, text = calls[part.index]
            calls[part.index] = (call_id, name, text + part.arguments)
    return calls


def same(deltas: list[Delta]) -> None:
    """Check that the parts of each call say what the complete call says."""
    parts = told(deltas)
    calls = joined(deltas).tool_calls
    assert list(parts) == [call.index for call in calls]
    for call in calls:
        call_id, name, text = parts[call.index]
        assert (call_id, name, json.loads(text)) == (call.id, call.name, call.arguments)


@pytest.mark.parametrize("name", STREAMED)
@pytest.mark.parametrize("function", ARGUMENTS)
def test_a_call_comes_in_parts(name: str, function: str) -> None:
    text = begun(FORCED[name], PLAIN) + written(FORCED[name], function)
    letters, whole = read(FORCED[name], text), read(FORCED[name], [text])
    same(letters)
    same(whole)
    assert told(letters) == told(whole)
    assert joined(letters).content == joined(whole).content == ""
    if function == "get_weather":
        assert sum(len(delta.call_parts) for delta in letters) > 10


@pytest.mark.parametrize("name", sorted({*STREAMED} & {*SEVERAL}))
def test_several_calls_come_in_parts(name: str) -> None:
    deltas = read(FORCED[name], begun(FORCED[name], PLAIN) + written(FORCED[name], *ARGUMENTS))
    same(deltas)
    assert len(told(deltas)) == len(ARGUMENTS)


@pytest.mark.parametrize("name", STREAMED)
def test_an_answer_that_is_cut_says_no_more_than_it_has_said(name: str) -> None:
    format = FORCED[name]
    before, call = begun(format, PLAIN), written(format, "get_weather")
    (known,) = told(read(format, [before + call])).values()
    for length in range(len(call)):
        text = before + call[:length]
        deltas = read(format, text)
        parts = told(deltas)
        assert told(read(format, [text])) == parts
        if parts:
            call_id, function, arguments = parts[0]
            assert known[:2] == (call_id, function)
            assert known[2].startswith(arguments)
        for complete in joined(deltas).tool_calls:
            assert complete.arguments == ARGUMENTS["get_weather"]


@pytest.mark.parametrize("name", DISTINCT)
def test_of_a_call_that_is_cut_nothing_is_content(name: str) -> None:
    format = FORCED[name]
    before, call = begun(format, PLAIN), written(format, "get_weather")
    for length in range(len(call)):
        text = before + call[:length]
        deltas = read(format, text)
        assert joined(deltas) == joined(read(format, [text])) == joined(finished(format, text))
        assert joined(deltas).content == ""
        assert [found.arguments for found in joined(deltas).tool_calls] in ([], [ARGUMENTS["get_weather"]])


def finished(format: Format, text: str) -> list[Delta]:
    """What an answer says whose last chunk is known to be the last."""
    return list(OutputParser(format, PLAIN, lambda: "id 1", held=True).feed(text, final=True))


@pytest.mark.parametrize("name", sorted({*DISTINCT} & {*SEVERAL}))
def test_calls_before_one_that_is_cut_are_complete(name: str) -> None:
    format, names = SEVERAL[name], list(ARGUMENTS)
    before, calls = begun(format, PLAIN), written(format, *names)
    counts = []
    for length in range(len(calls)):
        answer = joined(read(format, [before + calls[:length]]))
        counts.append(len(answer.tool_calls))
        assert [(call.name, call.arguments) for call in answer.tool_calls] == list(ARGUMENTS.items())[: counts[-1]]
        assert answer.content == ""
    assert counts == sorted(counts)
    assert counts[calls.index("add")] == 1


@pytest.mark.parametrize("name", DISTINCT)
def test_what_no_grammar_holds_comes_whole(name: str) -> None:
    deltas = read(FORCED[name], begun(FORCED[name], PLAIN) + written(FORCED[name], "get_weather"), held=False)
    assert told(deltas) == {}
    assert len(joined(deltas).tool_calls) == 1


@pytest.mark.parametrize("name", [name for name in DISTINCT if name not in STREAMED])
def test_formats_of_other_arguments_give_the_complete_call(name: str) -> None:
    deltas = read(FORCED[name], begun(FORCED[name], PLAIN) + written(FORCED[name], "get_weather"))
    assert told(deltas) == {}
    assert len(joined(deltas).tool_calls) == 1


def outcome(format: Format, chunks: Iterable[str]) -> tuple[object, ...]:
    """All that an answer says up to its fault."""
    parser, deltas, fault = OutputParser(format, ParseContext(ToolSet(TOOLS)), lambda: "id", held=True), [], ""
    try:
        for chunk in chunks:
            deltas.extend(parser.feed(chunk))
        deltas.extend(parser.feed("", final=True))
    except MalformedCall as error:
        fault = str(error)
    return told(deltas), joined(deltas), fault


@pytest.mark.parametrize("head", ["", "f", "functions.f:0"])
def test_what_is_held_without_a_whole_head_is_no_fault(head: str) -> None:
    for name, opening in (
        (name, name.split("{{")[0]) for name in CHUNKED if name.endswith("<|tool_call_begin|>{{ id }}")
    ):
        content = joined(read(CHUNKED[name], f'{opening}{head}{{"a": 1}}<|tool_call_end|>')).content
        assert content == f'<|tool_call_begin|>{head}{{"a": 1}}<|tool_call_end|>'


@settings(max_examples=300)
@given(answers(), st.lists(st.integers(0, 500), max_size=8))
def test_cuts_change_no_parts_whatever_the_text(given_answer: tuple[str, str], places: list[int]) -> None:
    name, text = given_answer
    whole = outcome(CHUNKED[name], [text])
    assert outcome(CHUNKED[name], cut(text, places)) == whole
    assert outcome(CHUNKED[name], text) == whole
