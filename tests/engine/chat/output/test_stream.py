"""Reading a text that is not all there yet."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from engine.api import Delta
from engine.chat.output.stream import Machine, Script, Tape, content, find_first, held, nothing
from tests.engine.chat.reading import answer, steps


def quoted(read: Callable[[Tape], Script[object]]) -> Callable[[str], str]:
    """A function from a text, fed whole and letter by letter, to what `read` returns and then leaves."""

    def script(tape: Tape) -> Script[None]:
        result = yield from read(tape)
        yield content(repr(result))
        yield from tape.pour(content)

    def run(text: str) -> str:
        whole = answer(Machine(script), [text]).content
        assert answer(Machine(script), text).content == whole
        return whole

    return run


@pytest.mark.parametrize(
    ("text", "expected"),
    [("<a>x", "'<a>'x"), ("<b>", "'<b>'"), ("<c>x", "''<c>x"), ("<a", "''<a"), (" <a>", "'' <a>"), ("", "''")],
)
def test_accept(text: str, expected: str) -> None:
    assert quoted(lambda tape: tape.accept("<a>", "<b>"))(text) == expected


@pytest.mark.parametrize(("text", "expected"), [(" \n<a>x", "'<a>'x"), (" x", "'' x"), (" ", "'' ")])
def test_accept_after_space(text: str, expected: str) -> None:
    assert quoted(lambda tape: tape.accept("<a>", after_space=True))(text) == expected


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
    assert quoted(lambda tape: tape.until("<a>", "<b>"))(text) == expected


def test_upto_leaves_the_tag() -> None:
    assert quoted(lambda tape: tape.upto("<a>"))("xy<a>z") == "('xy', '<a>')<a>z"
    assert quoted(lambda tape: tape.upto())("xy<a>z") == "('xy<a>z', '')"


@pytest.mark.parametrize(("text", "expected"), [(" \n x ", "' \\n 'x "), ("x", "''x"), ("  ", "'  '"), ("", "''")])
def test_skip_space(text: str, expected: str) -> None:
    assert quoted(lambda tape: tape.skip_space())(text) == expected


def test_unread() -> None:
    def read(tape: Tape) -> Script[str]:
        tag = yield from tape.accept("<a>")
        tape.unread(tag)
        return tag

    assert quoted(read)("<a>x") == "'<a>'<a>x"


def test_pour_holds_back_what_may_be_a_tag() -> None:
    machine = Machine(lambda tape: tape.pour(content, "<tag>"))
    assert [delta.content for delta in steps(machine, ["a<t", "b <", "tag", "x"])] == ["a", "<tb ", "", "<tagx", ""]


def test_pour_that_trims_holds_back_whitespace_too() -> None:
    def script(tape: Tape) -> Script[None]:
        tag = yield from tape.pour(content, "<tag>", trim=True)
        yield content(f"({tag})")
        yield from tape.pour(content, trim=True)

    pieces = ["a ", "b\n <", "tag>", " c ", ""]
    assert [delta.content for delta in steps(Machine(script), pieces)] == ["a", " b", "(<tag>)", " c", "", ""]


def test_what_nobody_reads_is_not_said() -> None:
    machine = Machine(lambda tape: tape.pour(nothing))
    assert list(machine.feed("abc", final=True)) == []


def test_a_fault_comes_after_what_stood_before_it() -> None:
    def script(tape: Tape) -> Script[None]:
        yield from tape.pour(content, "!")
        raise ValueError("!")

    said: list[Delta] = []
    with pytest.raises(ValueError, match="!"):
        said.extend(Machine(script).feed("abc!d"))
    assert said == [Delta(content="abc")]


def test_find_first() -> None:
    assert find_first("a<x><y>", ("<y>", "<x>")) == (1, "<x>")
    assert find_first("a<x><y>", ("<y>", "<x>"), 2) == (4, "<y>")
    assert find_first("abc", ("<y>",)) == (3, "")
    assert find_first("abc", ()) == (3, "")


def test_held() -> None:
    assert held("abc<ta", ("<tag>", "<x>")) == 3
    assert held("abc<tag>", ("<tag>",)) == 0
    assert held("<<", ("<<tag",)) == 2
    assert held("abc", ()) == 0
