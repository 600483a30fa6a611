"""Who wants which rows, and what is kept: against an encoder that only counts."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from typing import Any, cast

import numpy as np
import pytest

from engine.runner.batch import Rows
from engine.runner.encoder import Encoder
from engine.runner.projector import EncodeStopped, Span

SIZE = 4 * 8  # bytes of a chunk's rows


class FakeProjector:
    """Makes rows that hold a chunk's name; `broken` ones fail; `begun` is set when a `slow` one has begun."""

    def __init__(self) -> None:
        self.nodes = 0
        self.order: list[str] = []
        self.broken: set[str] = set()
        self.slow: set[str] = set()
        self.begun = threading.Event()

    def encode(self, chunk: FakeChunk, stopped: Callable[[], bool]) -> Rows | None:
        self.order.append(chunk.name)
        while chunk.name in self.slow:
            self.begun.set()
            if stopped():
                raise EncodeStopped
        return None if chunk.name in self.broken else np.full((2, 4), ord(chunk.name), np.float32)


class FakeChunk:
    n_tokens = 2

    def __init__(self, name: str) -> None:
        self.name = name


def span(name: str) -> Span:
    chunk = cast(Any, FakeChunk(name))
    return Span(0, 0, name, chunk, lambda: chunk)


CHUNKS: dict[Hashable, Span] = {name: span(name) for name in "abcdef"}


def spans(names: str) -> tuple[Span, ...]:
    return tuple(CHUNKS[name] for name in names)


@pytest.fixture
def projector() -> FakeProjector:
    return FakeProjector()


@pytest.fixture
def encoder(projector: FakeProjector) -> Encoder:
    return Encoder(cast(Any, projector), 2 * SIZE)


def run(encoder: Encoder) -> None:
    while encoder.encode_next():
        pass


def held(encoder: Encoder) -> str:
    return "".join(name for name in "abcdef" if encoder.rows(name) is not None)


def test_what_is_next_for_anybody_comes_before_what_is_later(encoder: Encoder, projector: FakeProjector) -> None:
    encoder.want({1: spans("ab"), 2: spans("cd"), 3: spans("a")})
    run(encoder)
    assert projector.order == ["a", "c", "b", "d"]
    rows = encoder.rows("c")
    assert rows is not None
    assert (rows == ord("c")).all()


def test_what_is_wanted_stays_and_the_last_used_of_the_rest(encoder: Encoder, projector: FakeProjector) -> None:
    encoder.want({1: spans("abc")})
    run(encoder)
    assert held(encoder) == "abc"
    encoder.rows("a")
    encoder.want({})
    assert held(encoder) == "ac"  # `b` was not used for the longest time
    encoder.want({1: spans("de")})
    run(encoder)
    assert held(encoder) == "de"
    assert projector.order == ["a", "b", "c", "d", "e"]


def test_what_fails_fails_for_those_who_want_it_now(encoder: Encoder, projector: FakeProjector) -> None:
    projector.broken.add("a")
    encoder.want({1: spans("ab")})
    run(encoder)
    assert encoder.has_failed("a")
    assert held(encoder) == "b"
    encoder.want({})
    projector.broken.clear()
    encoder.want({2: spans("a")})
    assert not encoder.has_failed("a")
    run(encoder)
    assert held(encoder) == "ab"


def test_what_nobody_wants_any_more_is_given_up(encoder: Encoder, projector: FakeProjector) -> None:
    projector.slow.add("a")
    ready = threading.Event()
    encoder.start(ready.set)
    encoder.want({1: spans("a"), 2: spans("ab")})
    assert projector.begun.wait(10)
    encoder.want({2: spans("ab")})
    assert not ready.wait(0.05), "another wants it"
    encoder.want({3: spans("b")})
    assert ready.wait(10)
    assert held(encoder) == "b"
    assert encoder.encoded == 1
    projector.slow.clear()
    ready.clear()
    encoder.want({4: spans("a")})
    assert ready.wait(10)
    assert held(encoder) == "ab"
