"""R18: who is loaded, who waits, who goes; and what one client waits for another."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.engine.loading.test_any_order_of_events import AnyOrderOfEvents
from tests.faults.measure import Counts, Line, kept, milliseconds, percentile, timed
from tests.faults.models import COPIES, ONE, OTHER, provide
from tests.faults.streams import Stream, answer, story
from tests.serving import Served, serving

_STEPS = 100  # of an example
_SIXTY = 60
_ENDLESS = 40
_SHORT = {"num_predict": 8}


def turns(folder: Path, counts: Counts) -> Iterator[Line]:
    """R18."""
    yield _any_order(counts)
    with serving(folder / "models", OLLAMA_MAX_LOADED_MODELS="1") as server:
        provide(server, folder, *COPIES[:3])
        yield from asyncio.run(_in_turn(server))
    with serving(folder / "models", OLLAMA_MAX_LOADED_MODELS="2") as server:
        provide(server, folder, *COPIES)
        yield from asyncio.run(_two_places(server, counts.turn_seconds))
    with serving(folder / "models") as server:
        provide(server, folder, ONE, OTHER)
        yield asyncio.run(_side_by_side(server))
        yield from asyncio.run(_beside_a_crowd(server, counts.crowd))
        yield asyncio.run(_beside_answers_without_end(server))


def _any_order(counts: Counts) -> Line:
    """The scheduler's invariants, in any order of events."""
    examples = counts.scheduler_steps // _STEPS
    started = time.monotonic()
    every = settings(
        max_examples=examples,
        stateful_step_count=_STEPS,
        suppress_health_check=list(HealthCheck),
        deadline=None,
        database=None,
    )
    broken = ""
    try:
        run_state_machine_as_test(AnyOrderOfEvents, settings=every)
    except Exception as error:  # noqa: BLE001 - whatever is broken is told
        broken = f"{type(error).__name__}: {error}"
    told = broken or f"{examples} runs of up to {_STEPS} events in {time.monotonic() - started:.0f} s"
    goal = "in any order of events: budget and places kept, pinned ones last, busy ones left, one end each"
    return kept("R18", goal, told, not broken)


async def _in_turn(server: Served) -> list[Line]:
    before = _loads(server)
    streams = [await Stream(server, story(COPIES[i % 3], **_SHORT)).start() for i in range(_SIXTY)]
    ends = [await stream.ended() for stream in streams]
    lost = sum(end.get("eval_count") != 8 for end in ends)
    loads = _loads(server) - before
    return [
        kept(
            "R18",
            "A B C A B C … of 60 requests, one place: ≤ 6 loads",
            f"{loads}; {lost} lost",
            loads <= 6 and not lost,
        )
    ]


async def _two_places(server: Served, seconds: float) -> list[Line]:
    """Four clients for each of four models, each with one request after the other."""
    waits: dict[str, list[float]] = {name: [] for name in COPIES}
    end = time.perf_counter() + seconds
    before = _loads(server)

    async def client(model: str) -> None:
        while time.perf_counter() < end:
            stream = await answer(server, story(model, num_predict=64))
            waits[model].append(stream.first_at - stream.sent_at)

    await asyncio.gather(*(client(model) for model in COPIES for _ in range(4)))
    longest = max(max(values) for values in waits.values())
    answers = Counter({model: len(values) for model, values in waits.items()})
    most, least = max(answers.values()), min(answers.values())
    together = list(itertools.chain.from_iterable(waits.values()))
    told = f"{milliseconds(together)} in {len(together)} answers, {_loads(server) - before} loads in {seconds:.0f} s"
    return [
        timed("R18", "four models under steady load, two places: nobody waits > 10 s", told, longest <= 10),
        timed(
            "R18",
            "and each has its share (the least ≥ 0.7 of the most)",
            f"{least} to {most} answers",
            least >= 0.7 * most,
        ),
    ]


async def _side_by_side(server: Served) -> Line:
    """The time of two loads together against that of each alone."""
    alone = []
    await asyncio.sleep(3)  # the next process is ready
    for model in (ONE, OTHER):
        stream = await answer(server, story(model, num_predict=1) | {"keep_alive": 0})
        alone.append(stream.first_at - stream.sent_at)
    await asyncio.sleep(3)
    both = [await Stream(server, story(model, num_predict=1)).start() for model in (ONE, OTHER)]
    await asyncio.gather(*(stream.ended() for stream in both))
    together = max(stream.first_at for stream in both) - both[0].sent_at
    told = f"{1000 * together:.0f} ms; one after the other {1000 * sum(alone):.0f} ms"
    return timed("R18", "two loads side by side ≤ one after the other", told, together <= sum(alone))


async def _beside_a_crowd(server: Served, size: int) -> list[Line]:
    """What a short request waits behind hundreds of one other client."""
    await answer(server, story(ONE, **_SHORT))
    crowd = [await Stream(server, story(ONE, num_predict=200), "crowd").start() for _ in range(size)]
    await crowd[0].begun()
    others = [await _measured(server, "other") for _ in range(5)]
    same = await _measured(server, "crowd")
    await asyncio.gather(*(stream.ended() for stream in crowd))
    whole = max(stream.last_at for stream in crowd) - crowd[0].sent_at
    lost = sum(stream.last.get("eval_count") != 200 for stream in crowd)
    told = f"{milliseconds(others)}; all {size} took {whole:.0f} s"
    return [
        timed("R18", f"a short request beside {size} of another client ≤ 3 s", told, percentile(others, 0.99) <= 3),
        timed("R18", "a short one of the same client ≤ 10 s", f"{same:.1f} s", same <= 10),
        kept("R18", "none of theirs is lost", f"{lost} of {size}", not lost),
    ]


async def _beside_answers_without_end(server: Served) -> Line:
    """What a short request waits where another client has all places, for ever."""
    endless = [await Stream(server, story(ONE), "crowd").start() for _ in range(_ENDLESS)]
    await endless[0].begun()
    await asyncio.sleep(1)
    seconds = await _measured(server, "other")
    gone = sum(bool(stream.last) for stream in endless)
    for stream in endless:
        stream.leave()
    told = f"{seconds:.1f} s; {gone} of theirs ended"
    return timed("R18", f"a short request beside {_ENDLESS} without end ≤ 4 s", told, seconds <= 4 and not gone)


async def _measured(server: Served, program: str) -> float:
    """Seconds that a short answer takes."""
    stream = await Stream(server, story(ONE, **_SHORT), program).start()
    await stream.ended()
    return stream.last_at - stream.sent_at


def _loads(server: Served) -> int:
    return sum(" loaded " in line or line.endswith(" loaded") for line in server.log.read_text().splitlines())
