"""Reasoning and content told apart, however the answer is cut."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.api import Delta
from engine.chat.output.reasoning import ThinkingSplitter, read_opened_thinking
from engine.chat.output.stream import ParserCoroutine, StreamParser, TextBuffer
from engine.chat.output.stream import content as say
from tests.engine.chat.reading import answer, cut, steps


@pytest.mark.parametrize(
    ("text", "thinking", "content"),
    [
        ("<think>\nIt is Paris.\n</think>\n\nParis", "It is Paris.\n", "Paris"),
        (" \n<think>a</think>b", "a", "b"),
        ("<think></think>b", "", "b"),
        ("<think>a</think><think>b</think>c", "a", "<think>b</think>c"),
        ("<think><think>x</think>y", "<think>x", "y"),
        ("<think>cut short", "cut short", ""),
        ("<think>cut </thi", "cut </thi", ""),
        ("<thi", "", "<thi"),
        (" \n", "", " \n"),
        ("  abc <think>def</think>", "", "  abc <think>def</think>"),
        ("</think>b", "", "</think>b"),
        ("", "", ""),
    ],
)
def test_a_whole_answer(text: str, thinking: str, content: str) -> None:
    expected = Delta(thinking=thinking, content=content)
    assert answer(ThinkingSplitter(), [text]) == expected
    assert answer(ThinkingSplitter(), list(text)) == expected


@pytest.mark.parametrize(
    ("text", "thinking", "content"),
    [
        ("\nI see.\n</think>\n\nYes", "I see.\n", "Yes"),
        ("</think> Ans", "", "Ans"),
        ("never closed", "never closed", ""),
    ],
)
def test_the_prompt_opened_the_block(text: str, thinking: str, content: str) -> None:
    expected = Delta(thinking=thinking, content=content)
    assert answer(ThinkingSplitter(opened=True), [text]) == expected
    assert answer(ThinkingSplitter(opened=True), list(text)) == expected


def test_text_is_held_back_only_while_it_may_be_a_tag() -> None:
    parsed = list(steps(ThinkingSplitter(), ["<", "b>", "</think>"]))
    assert [delta.content for delta in parsed] == ["", "<b>", "</think>", ""]
    parsed = list(steps(ThinkingSplitter(), ["<think>a</", "b", "</think", ">c"]))
    assert [(delta.thinking, delta.content) for delta in parsed] == [
        ("a", ""),
        ("</b", ""),
        ("", ""),
        ("", "c"),
        ("", ""),
    ]


def test_other_tags() -> None:
    opening, closing = "<|channel|>analysis<|message|>", "<|end|>"
    splitter = ThinkingSplitter(opening, closing)
    assert answer(splitter, [f"{opening}hm{closing}yes"]) == Delta(thinking="hm", content="yes")


@given(
    st.lists(st.sampled_from(["<think>", "</think>", "<th", "ink>", "</", "\n", " ", "a", "b"]), max_size=12),
    st.lists(st.integers(0, 200), max_size=8),
    st.booleans(),
)
def test_where_it_is_cut_does_not_matter(parts: list[str], places: list[int], opened: bool) -> None:
    text = "".join(parts)
    expected = answer(ThinkingSplitter(opened=opened), [text])
    assert answer(ThinkingSplitter(opened=opened), cut(text, places)) == expected
    if not opened and not text.lstrip().startswith("<think>"):
        assert expected == Delta(content=text)


@pytest.mark.parametrize(
    ("text", "thinking", "content"),
    [
        ("why\n</think>\n\nso", "why", "so"),
        (" <think>\nwhy</think>so", "\nwhy", "so"),
        ("why\n<tool_call>x", "why", "<tool_call>x"),
        ("why", "why", ""),
        ("</think>so", "", "so"),
        ("<thi", "<thi", ""),
    ],
)
def test_a_block_that_the_prompt_opens(text: str, thinking: str, content: str) -> None:
    def script(buffer: TextBuffer) -> ParserCoroutine[None]:
        yield from read_opened_thinking(buffer, "<tool_call>")
        yield from buffer.emit_until(say)

    expected = Delta(thinking=thinking, content=content)
    assert answer(StreamParser(script), [text]) == expected
    assert answer(StreamParser(script), text) == expected


def test_a_block_whose_first_whitespace_is_dropped() -> None:
    parser = StreamParser(lambda buffer: read_opened_thinking(buffer, strip=True))
    assert answer(parser, ["<think>\n", " why"]) == Delta(thinking="why")
