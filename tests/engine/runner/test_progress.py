"""What the child tells of requests that ask for it, before their answers begin."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from engine.messages import Chunk, PromptProgress, QueuePlace
from engine.runner import loop as loops
from engine.runner import progress
from engine.runner.progress import ProgressNews
from engine.runner.sequence import Sequence
from tests.engine.runner.harness import LIKELIEST, Runner, chat

LONG = "The cat sat on the mat. " * 60


@pytest.fixture(scope="module")
def one_by_one() -> Iterator[Runner]:
    """One sequence at a time, whose prompts are computed in small chunks."""
    runner = Runner(n_parallel=1, n_cells=1024, n_batch=64)
    yield runner
    runner.close()


def read(runner: Runner, seq: Sequence) -> list[PromptProgress]:
    return [event for event in runner.events if isinstance(event, PromptProgress) and event.id == seq.id]


def test_a_prompt_is_told_as_it_is_computed(one_by_one: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "INTERVAL", 0.0)
    seq = one_by_one.submit(LONG, progress=True, num_predict=3, sampling=LIKELIEST)
    one_by_one.run()
    told = read(one_by_one, seq)
    counts = [event.processed for event in told]
    assert (counts[0], counts[-1]) == (0, seq.n_prompt)
    assert counts == sorted(set(counts))
    assert len(counts) > 5
    assert {(event.cached, event.total) for event in told} == {(0, seq.n_prompt)}
    assert [event.ns for event in told] == sorted(event.ns for event in told)
    first = next(index for index, event in enumerate(one_by_one.events) if isinstance(event, Chunk))
    assert not any(isinstance(event, PromptProgress) for event in one_by_one.events[first:])
    again = one_by_one.submit(LONG, progress=True, num_predict=3, sampling=LIKELIEST)
    one_by_one.run()
    told = read(one_by_one, again)
    assert [event.processed for event in told] == [seq.n_prompt - 1, seq.n_prompt]
    assert {event.cached for event in told} == {seq.n_prompt - 1}


def test_most_steps_of_a_quick_prompt_are_not_told(one_by_one: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "INTERVAL", 1e9)
    one_by_one.forget()
    seq = one_by_one.submit(LONG, progress=True, num_predict=3)
    one_by_one.run()
    assert [event.processed for event in read(one_by_one, seq)] == [0, seq.n_prompt]


def test_who_does_not_ask_is_told_nothing(one_by_one: Runner) -> None:
    one_by_one.events.clear()
    for number in range(3):
        one_by_one.submit(chat(f"Count to {number}"), num_predict=3)
    one_by_one.run()
    assert not any(isinstance(event, PromptProgress | QueuePlace) for event in one_by_one.events)


def test_places_are_told_where_they_change(one_by_one: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loops, "INTERVAL", 0.0)
    one_by_one.events.clear()
    first = one_by_one.submit(chat("Write a long story."), num_predict=20)
    one_by_one.step()
    silent = one_by_one.submit(chat("Count to 4"), num_predict=3)
    second, third = (one_by_one.submit(chat(f"Count to {n}"), progress=True, num_predict=3) for n in (5, 6))
    one_by_one.step()
    one_by_one.step()
    one_by_one.loop.cancel(silent.id)
    one_by_one.step()
    one_by_one.run()
    places = [(event.id, event.place) for event in one_by_one.events if isinstance(event, QueuePlace)]
    assert places == [(second.id, 2), (third.id, 3), (second.id, 1), (third.id, 2), (third.id, 1)]
    assert first.id not in {request_id for request_id, _ in places}
    assert one_by_one.loop.admission.waiting.asking == 0


def test_a_loop_that_rests_tells_places_at_once(one_by_one: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loops, "INTERVAL", 1e9)
    one_by_one.events.clear()
    paused = one_by_one.submit(chat("Write a long story."), num_predict=20)
    one_by_one.run(lambda: paused.n_generated > 2)
    one_by_one.loop.pause(paused.id, paused=True)
    waiting = one_by_one.submit(chat("Count to 5"), progress=True, num_predict=3)
    assert one_by_one.loop.idle
    one_by_one.loop.tell_places(resting=True)
    assert [event for event in one_by_one.events if isinstance(event, QueuePlace)] == [QueuePlace(waiting.id, 1)]
    one_by_one.loop.pause(paused.id, paused=False)
    one_by_one.run()


def test_a_request_that_is_suspended_waits_again() -> None:
    news = ProgressNews()
    assert news.place(1, 2) == QueuePlace(1, 2)
    assert news.place(1, 2) is None
    assert news.prompt(1, 0, 0, 8, 0.0, 5.0) == PromptProgress(1, 0, 0, 8, 0)
    assert news.prompt(1, 4, 0, 8, 5.0, 5.0) is None, "it is too early"
    assert news.prompt(1, 4, 0, 8, 5.0, 6.0) == PromptProgress(1, 4, 0, 8, 1_000_000_000)
    assert news.place(1, 2) == QueuePlace(1, 2)
    assert news.prompt(1, 8, 0, 8, 5.0, 6.0) == PromptProgress(1, 8, 0, 8, 1_000_000_000), "the last one is never early"
