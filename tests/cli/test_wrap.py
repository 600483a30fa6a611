"""Word wrap of a text that comes in pieces."""

from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from cli.answer import WordWrap

WIDTH = 12
TEXTS = st.text(st.sampled_from("ab \n天空,."), max_size=80)


def wrapped(*pieces: str, width: int = WIDTH) -> str:
    wrap = WordWrap(width)
    return "".join(map(wrap.feed, pieces)) + wrap.end()


def test_a_word_that_does_not_fit_starts_a_line() -> None:
    assert wrapped("one two three four") == "one two \nthree four"


def test_a_word_is_held_back_until_it_ends() -> None:
    wrap = WordWrap(WIDTH)
    assert wrap.feed("one tw") == "one "
    assert wrap.feed("o") == ""
    assert wrap.feed(" ") == "two "
    assert wrap.feed("three") == ""
    assert wrap.end() == "\nthree"


def test_a_word_longer_than_a_line_is_left_whole() -> None:
    assert wrapped("abcdefghijklmnop") == "abcdefghijklmnop"


def test_scripts_without_blanks_break_anywhere() -> None:
    assert wrapped("天空为什么是蓝色的") == "天空为什么是\n蓝色的"


@given(TEXTS, st.integers(0, 80))
def test_nothing_is_lost_wherever_it_is_cut(text: str, at: int) -> None:
    shown = wrapped(text[:at], text[at:])
    assert shown == wrapped(text)
    assert shown.replace("\n", "") == text.replace("\n", "")


@given(TEXTS)
def test_only_a_single_word_is_wider_than_a_line(text: str) -> None:
    assert all(cell_len(line.rstrip()) <= WIDTH or " " not in line.rstrip() for line in wrapped(text).split("\n"))
