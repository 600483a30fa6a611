"""Reading a text that is not all there yet."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from engine.api import Delta
from engine.chat.output.stream import (
    ParserCoroutine,
    StreamParser,
    TextBuffer,
    content,
    discard,
    find_first,
    partial_match_len,
)
from tests.engine.chat.reading import answer, steps


def quoted(read: Callable[[TextBuffer], ParserCoroutine[object]]) -> Callable[[str], str]:
    """A function from a text, fed whole and letter by letter, to what `read` returns and then leaves."""

    def script(buffer: TextBuffer) -> ParserCoroutine[None]:
        result = yield from read(buffer)
        yield content(repr(result))
        yield from buffer.emit_until(content)

    def run(text: str) -> str:
        whole = answer(StreamParser(script), [text]).content
        assert answer(StreamParser(script), text).content == whole
        return whole

    return run


@pytest.mark.parametrize(
    ("text", "expected"),
    [("<a>x", "'<a>'x"), ("<b>", "'<b>'"), ("<c>x", "''<c>x"), ("<a", "''<a"), (" <a>", "'' <a>"), ("", "''")],
)
def test_accept(text: str, expected: str) -> None:
    assert quoted(lambda buffer: buffer.accept("<a>", "<b>"))(text) == expected


@pytest.mark.parametrize(("text", "expected"), [(" \n<a>x", "'<a>'x"), (" x", "'' x"), (" ", "'' ")])
def test_accept_after_space(text: str, expected: str) -> None:
    assert quoted(lambda buffer: buffer.accept("<a>", after_space=True))(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("xy<a>z", "('xy', '<a>')z"),
        ("x<b>y<a>", "('x', '<b>')y<a>"),
        ("x<a", "('x<a', '')"),
        ("<<a>", "('<', '<a>')"),
        ("", "('', '')"),
    ],
)
def test_until(text: str, expected: str) -> None:
    assert quoted(lambda buffer: buffer.read_until("<a>", "<b>"))(text) == expected


def test_read_until_can_leave_the_tag() -> None:
    assert quoted(lambda buffer: buffer.read_until("<a>", keep=True))("xy<a>z") == "('xy', '<a>')<a>z"
    assert quoted(lambda buffer: buffer.read_until(keep=True))("xy<a>z") == "('xy<a>z', '')"


@pytest.mark.parametrize(("text", "expected"), [(" \n x ", "' \\n 'x "), ("x", "''x"), ("  ", "'  '"), ("", "''")])
def test_skip_space(text: str, expected: str) -> None:
    assert quoted(lambda buffer: buffer.skip_space())(text) == expected


def test_unread() -> None:
    def read(buffer: TextBuffer) -> ParserCoroutine[str]:
        tag = yield from buffer.accept("<a>")
        buffer.push_back(tag)
        return tag

    assert quoted(read)("<a>x") == "'<a>'<a>x"


def test_pour_holds_back_what_may_be_a_tag() -> None:
    parser = StreamParser(lambda buffer: buffer.emit_until(content, "<tag>"))
    assert [delta.content for delta in steps(parser, ["a<t", "b <", "tag", "x"])] == ["a", "<tb ", "", "<tagx", ""]


def test_pour_that_trims_holds_back_whitespace_too() -> None:
    def script(buffer: TextBuffer) -> ParserCoroutine[None]:
        tag = yield from buffer.emit_until(content, "<tag>", trim=True)
        yield content(f"({tag})")
        yield from buffer.emit_until(content, trim=True)

    pieces = ["a ", "b\n <", "tag>", " c ", ""]
    assert [delta.content for delta in steps(StreamParser(script), pieces)] == ["a", " b", "(<tag>)", " c", "", ""]


def test_what_nobody_reads_is_not_said() -> None:
    parser = StreamParser(lambda buffer: buffer.emit_until(discard))
    assert list(parser.feed("abc", final=True)) == []


def test_a_fault_comes_after_what_stood_before_it() -> None:
    def script(buffer: TextBuffer) -> ParserCoroutine[None]:
        yield from buffer.emit_until(content, "!")
        raise ValueError("!")

    parsed: list[Delta] = []
    with pytest.raises(ValueError, match="!"):
        parsed.extend(StreamParser(script).feed("abc!d"))
    assert parsed == [Delta(content="abc")]


def test_find_first() -> None:
    assert find_first("a<x><y>", ("<y>", "<x>")) == (1, "<x>")
    assert find_first("a<x><y>", ("<y>", "<x>"), 2) == (4, "<y>")
    assert find_first("abc", ("<y>",)) == (3, "")
    assert find_first("abc", ()) == (3, "")


def test_held() -> None:
    assert partial_match_len("abc<ta", ("<tag>", "<x>")) == 3
    assert partial_match_len("abc<tag>", ("<tag>",)) == 0
    assert partial_match_len("<<", ("<<tag",)) == 2
    assert partial_match_len("abc", ()) == 0
