"""The text of a request between the child and its reader."""

from __future__ import annotations

import asyncio

import pytest

from engine.errors import RunnerDied
from engine.loading import token_stream
from engine.loading.token_stream import TokenStream
from engine.messages import Chunk, Done, ScoredChunk, ScoredToken

A, B, C = Chunk(1, "a", 1), Chunk(1, "b", 2), Chunk(1, "c", 4)
DONE = Done(1, "stop", 1, 0, 1, 1, 1)


async def test_what_has_piled_up_is_read_at_once() -> None:
    answer = TokenStream()
    answer.add(A)
    answer.add(B)
    assert await answer.read() == ([A, B], None)
    answer.add(C)
    answer.finish(DONE)
    assert await answer.read() == ([C], DONE)
    assert answer.ended


async def test_a_reader_waits_for_what_comes() -> None:
    answer = TokenStream()
    reading = asyncio.create_task(answer.read())
    await asyncio.sleep(0)
    answer.add(A)
    assert await reading == ([A], None)


async def test_a_reader_that_is_far_behind_makes_the_answer_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(token_stream, "MOST_UNREAD", 1000)
    paused: list[bool] = []
    answer = TokenStream(pause=paused.append)
    for chunk in (A, B, C):
        answer.add(chunk)
    assert not paused
    answer.add(Chunk(1, "d" * 200, 5))
    answer.add(Chunk(1, "e", 6))
    assert paused == [True]
    await answer.read()
    assert paused == [True, False]
    answer.add(ScoredChunk(1, "f", 7, scores=(ScoredToken(b"f", -1.0, ((b"g", -2.0),) * 20),)))
    answer.finish(DONE)
    await answer.read()
    assert paused == [True, False, True]


async def test_text_comes_before_the_failure_that_ended_it() -> None:
    answer = TokenStream()
    answer.add(A)
    answer.finish(RunnerDied("first"))
    answer.finish(RunnerDied("second"))
    assert await answer.read() == ([A], None)
    with pytest.raises(RunnerDied, match="first"):
        await answer.read()


async def test_a_reader_that_is_cancelled_can_come_back() -> None:
    answer = TokenStream()
    reading = asyncio.create_task(answer.read())
    await asyncio.sleep(0)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    answer.finish(DONE)
    assert await answer.read() == ([], DONE)
