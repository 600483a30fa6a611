"""Whole characters, no part of a stop string, and an end to loops, however the text is cut into tokens."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from engine.runner.detokenizer import REPEAT_LIMIT, IncrementalDetokenizer

texts = st.text(alphabet="ab<|é你🎉 \n", max_size=60)
stops = st.lists(st.text(alphabet="ab<|é你🎉", min_size=1, max_size=5), max_size=3)


def cut(data: bytes, sizes: list[int]) -> list[bytes]:
    """The data in pieces of these sizes, over and over."""
    pieces, at, i = [], 0, 0
    while at < len(data):
        size = sizes[i % len(sizes)]
        pieces.append(data[at : at + size])
        at, i = at + size, i + 1
    return pieces


def shown(pieces: list[bytes], stops: list[str]) -> list[str]:
    """What the stream shows, piece by piece, until a stop string or the end."""
    stream = IncrementalDetokenizer(stops)
    texts = []
    for piece in pieces:
        texts.append(stream.feed(piece))
        if stream.stopped:
            return texts
    return [*texts, stream.flush()]


def expected(text: str, stops: list[str]) -> str:
    """The text up to the first stop string to be completed; of several, up to the one that begins first."""
    for end in range(1, len(text) + 1):
        complete = [text[:end].index(stop) for stop in stops if text[:end].endswith(stop)]
        if complete:
            return text[: min(complete)]
    return text


@given(texts, stops, st.lists(st.integers(1, 7), min_size=1, max_size=5))
@example("aab", ["ab"], [1])
@example("é🎉", [], [1])
def test_any_cut_shows_whole_characters_and_never_a_part_of_a_stop_string(
    text: str, stops: list[str], sizes: list[int]
) -> None:
    one_by_one = [char.encode() for char in text]
    assert "".join(shown(one_by_one, stops)) == expected(text, stops)
    pieces = shown(cut(text.encode(), sizes), stops)
    assert all("�" not in piece for piece in pieces)
    assert text.startswith("".join(pieces))
    for stop in stops:
        assert stop not in "".join(pieces)


@given(texts, st.lists(st.integers(1, 7), min_size=1, max_size=5))
def test_without_stop_strings_every_cut_shows_the_same(text: str, sizes: list[int]) -> None:
    assert "".join(shown(cut(text.encode(), sizes), [])) == text


def test_what_may_become_a_stop_string_waits_until_that_is_decided() -> None:
    stream = IncrementalDetokenizer(["</s>"])
    assert [stream.feed(piece) for piece in (b"a<", b"/", b"x<", b"/s")] == ["a", "", "</x", ""]
    assert stream.flush() == "</s"


def test_bytes_that_are_no_text_become_replacement_characters_and_half_a_character_is_dropped() -> None:
    stream = IncrementalDetokenizer([])
    assert stream.feed(b"a\xff") == "a�"
    assert stream.feed(b"\xe4\xbd") == ""
    assert stream.flush() == ""


def test_the_same_piece_over_and_over_is_a_loop() -> None:
    stream = IncrementalDetokenizer([])
    for _ in range(REPEAT_LIMIT):
        stream.feed(b" la")
    assert not stream.looping
    stream.feed(b"la ")
    assert stream.looping


def test_other_pieces_between_are_no_loop() -> None:
    stream = IncrementalDetokenizer([])
    for _ in range(REPEAT_LIMIT):
        stream.feed(b"la")
        stream.feed(b"li")
    assert not stream.looping
