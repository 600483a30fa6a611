"""What a request tells of itself before its answer: the watch alone, and the façade on a real process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from engine import progress
from engine.api import ChatRequest, Delta, Event, Final, GenerateRequest, Message, ModelLoading, PromptRead, Queued
from engine.engine import Engine
from engine.errors import EngineError, ModelNotFound, ServerBusy
from engine.progress import Watch, told_until, with_progress
from tests.engine.running import running, unload_all
from tests.engine.test_engine import other_weights, store_model
from tests.serving import GREEDY

LONG = "The cat sat on the mat. " * 60  # some 480 tokens
END = Final(done_reason="stop")


@pytest.fixture(autouse=True)
def without_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "INTERVAL", 0.001)
    monkeypatch.setattr(progress, "LONGEST_INTERVAL", 0.001)


def seen(watch: Watch, *states: Any) -> None:
    """Let a watch show one state after the other, and the last one for ever."""
    left = list(states)
    watch.look = lambda: left.pop(0) if len(left) > 1 else left[0]


async def test_each_state_is_told_once_and_nothing_where_there_is_no_news() -> None:
    watch, done = Watch(), asyncio.get_running_loop().create_future()
    seen(watch, None, Queued(2), Queued(2), None, Queued(1), Queued(1))
    told = []
    async for state in told_until(done, watch):
        told.append(state)
        if state == Queued(1):
            done.set_result(None)
    assert told == [Queued(2), Queued(1)]


async def test_the_last_state_is_told_before_the_answer_and_none_behind_its_first_piece() -> None:
    watch = Watch()

    async def answer() -> AsyncGenerator[Event, None]:
        await asyncio.sleep(0)
        watch.look = lambda: PromptRead(8, 8, 0, 1)
        yield Delta("a")
        watch.look = lambda: Queued(7)
        await asyncio.sleep(0.05)
        yield END

    assert [event async for event in with_progress(answer(), watch)] == [PromptRead(8, 8, 0, 1), Delta("a"), END]


async def test_behind_a_failure_nothing_is_told() -> None:
    watch = Watch()
    watch.look = lambda: Queued(1)

    async def answer() -> AsyncGenerator[Event, None]:
        raise EngineError("no")
        yield END

    with pytest.raises(EngineError, match="no"):
        await anext(with_progress(answer(), watch))


async def test_who_leaves_while_it_waits_ends_the_answer() -> None:
    watch, ended = Watch(), asyncio.Event()
    watch.look = lambda: Queued(1)

    async def answer() -> AsyncGenerator[Event, None]:
        try:
            await asyncio.Event().wait()
            yield END
        finally:
            ended.set()

    events = with_progress(answer(), watch)
    assert await anext(events) == Queued(1)
    await events.aclose()
    assert ended.is_set()


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[Engine]:
    async with running(tmp_path / "models", num_parallel=1) as engine:
        yield engine


def ask(prompt: str, **fields: Any) -> GenerateRequest:
    fields = {"model": "tinychat", "progress": True, "options": GREEDY | {"num_predict": 4}, **fields}
    return GenerateRequest(prompt=prompt, **fields)


def divided(events: list[Event]) -> tuple[list[Any], list[Any]]:
    """What came before the first piece of the answer, and the rest, which must have no progress."""
    first = next(index for index, event in enumerate(events) if isinstance(event, Delta | Final))
    before, rest = events[:first], events[first:]
    assert all(isinstance(event, Delta | Final) for event in rest)
    return before, rest


async def test_a_cold_load_and_then_the_prompt(engine: Engine) -> None:
    before, rest = divided([event async for event in engine.generate(ask(LONG, raw=True))])
    loads = [event for event in before if isinstance(event, ModelLoading)]
    reads = [event for event in before if isinstance(event, PromptRead)]
    assert before == [*loads, *reads]
    fractions = [load.fraction for load in loads]
    assert fractions == sorted(fractions)
    assert 0 <= fractions[0] <= fractions[-1] <= 1
    final = rest[-1]
    last = reads[-1]
    assert (last.processed, last.total, last.cached) == (final.prompt_eval_count, final.prompt_eval_count, 0)
    assert [read.processed for read in reads] == sorted({read.processed for read in reads})
    again, _ = divided([event async for event in engine.generate(ask(LONG, raw=True))])
    assert isinstance(again[-1], PromptRead)
    assert (again[-1].processed, again[-1].cached > last.total // 2) == (last.total, True)


async def test_who_does_not_ask_is_told_nothing(engine: Engine) -> None:
    events = [event async for event in engine.generate(ask(LONG, raw=True, progress=False))]
    assert all(isinstance(event, Delta | Final) for event in events)


async def test_the_beginning_of_an_answer_waits_for_its_prompt(engine: Engine) -> None:
    messages = [Message("user", LONG), Message("assistant", "The cat")]
    request = ChatRequest(model="tinychat", messages=messages, options=GREEDY | {"num_predict": 4}, progress=True)
    before, rest = divided([event async for event in engine.chat(request)])
    assert isinstance(before[-1], PromptRead)
    assert before[-1].processed == before[-1].total
    assert rest[0].content == "The cat"


async def test_places_go_down_and_a_client_that_leaves_gives_its_place_up(engine: Engine) -> None:
    await engine.load(ask(""))
    story = engine.generate(ask("Write a long story.", progress=False, options=GREEDY | {"num_predict": 500}))
    await anext(story)
    leaving = engine.generate(ask("Count to 5"))
    assert await anext(leaving) == Queued(1)
    waiting = engine.generate(ask("Count to 6"))
    assert await anext(waiting) == Queued(2)
    await leaving.aclose()
    assert await anext(waiting) == Queued(1)
    await story.aclose()
    before, rest = divided([event async for event in waiting])
    assert all(isinstance(event, PromptRead) for event in before)
    assert rest[-1].eval_count == 4


async def test_the_place_of_a_model_is_waited_for(tmp_path: Path) -> None:
    async with running(tmp_path / "models", max_loaded_models=1) as engine:
        store_model(engine.store, "other", other_weights(1))
        await engine.load(ask(""))
        story = engine.generate(ask("Write a long story.", options=GREEDY | {"num_predict": 500}))
        async for event in story:
            if isinstance(event, Delta):
                break
        first, second = (engine.generate(ask("Hi", model="other")) for _ in range(2))
        assert await anext(first) == Queued(1)
        assert await anext(second) == Queued(2)
        await story.aclose()
        for answer in (first, second):
            stages = [type(event) for event in divided([event async for event in answer])[0]]
            assert stages[-1] is PromptRead
        await unload_all(engine)


async def test_a_load_alone_is_told_too(engine: Engine) -> None:
    told = [event async for event in engine.load_with_progress(ask(""))]
    assert told
    assert {type(event) for event in told} == {ModelLoading}
    assert len(engine.running()) == 1
    assert [event async for event in engine.load_with_progress(ask(""))] == []
    with pytest.raises(ModelNotFound):
        await anext(engine.load_with_progress(ask("", model="nope")))


async def test_a_load_whose_client_leaves_is_given_up(engine: Engine) -> None:
    load = engine.load_with_progress(ask(""))
    assert isinstance(await anext(load), ModelLoading)
    await load.aclose()
    async with asyncio.timeout(60):
        while engine.loading():  # noqa: ASYNC110 - what is waited for is another process's end
            await asyncio.sleep(0.01)
    assert engine.running() == []


async def test_what_is_refused_has_only_its_error(tmp_path: Path) -> None:
    async with running(tmp_path / "models", max_loaded_models=1, max_queue=0) as engine:
        store_model(engine.store, "other", other_weights(1))
        story = engine.generate(ask("Write a long story.", progress=False, options=GREEDY | {"num_predict": 500}))
        await anext(story)
        waiting = engine.generate(ask("Hi", model="other"))
        assert await anext(waiting) == Queued(1)
        with pytest.raises(ServerBusy):
            await anext(engine.generate(ask("Hi", model="other")))
        await waiting.aclose()
        await story.aclose()
