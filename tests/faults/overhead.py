"""R23: what HTTP, scheduler and the socket to a model's process cost, where that answers from a script."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from pathlib import Path

import uvloop

from bench.client import Stream
from tests.faults.measure import Counts, Line, computed, milliseconds, percentile, timed
from tests.serving import Served, serving

_PACE = 0.01  # seconds from token to token of each stream
_STREAMS = (1, 8, 32)
_CROWD = 64  # streams for the rate: twice as many tokens a second as the goal asks for
_GOAL = 2000  # tokens a second


def overhead(folder: Path, counts: Counts) -> Iterator[Line]:
    """R23."""
    with serving(folder / "models", module="tests.faults.scripted", new=True, PRONK_RUNNER_PACE=str(_PACE)) as server:
        yield from uvloop.run(_measured(server, counts))


async def _measured(server: Served, counts: Counts) -> list[Line]:
    await _ask(server, 1)
    first = [await _first(server) for _ in range(counts.first_tokens)]
    lines = [
        timed(
            "R23",
            "the first token: HTTP, scheduler and socket ≤ 5 ms p50, 15 ms p99",
            f"{len(first)}: {milliseconds(first)}",
            percentile(first, 0.5) <= 0.005 and percentile(first, 0.99) <= 0.015,
        )
    ]
    for streams in _STREAMS:
        costs = [await _cost(server, streams) for _ in range(counts.cost_runs)]
        told = f"p50 {1000 * percentile(costs, 0.5):.3f} ms, most {1000 * max(costs):.3f} ms in {len(costs)} runs"
        goal = f"CPU of the server for each token, {streams} stream{'s' * (streams > 1)} ≤ 0.3 ms p50"
        lines.append(timed("R23", goal, told, percentile(costs, 0.5) <= 0.0003))
    rate, alone = await _rate(server)
    told = f"{rate:.0f}, {100 * alone:.0f} % of the tokens in a line of their own"
    lines.append(timed("R23", f"tokens relayed in a second, {_CROWD} streams ≥ {_GOAL}", told, rate >= _GOAL))
    return lines


async def _first(server: Served) -> float:
    """Seconds from the start of a connection to the first token."""
    stream = await _open(server, 1)
    await stream.ended.wait()
    return stream.lines()[0][0] - stream.asked


async def _cost(server: Served, streams: int) -> float:
    """Seconds of CPU for each token, of the server's process alone, over about a second."""
    tokens = round(1 / _PACE)
    before = computed(server.process.pid)
    answers = await asyncio.gather(*(_ask(server, tokens) for _ in range(streams)))
    return (computed(server.process.pid) - before) / sum(count for count, _ in answers)


async def _rate(server: Served) -> tuple[float, float]:
    """Tokens a second of many streams together, and how many of them have a line of their own."""
    tokens = round(3 / _PACE)
    started = time.perf_counter()
    answers = await asyncio.gather(*(_ask(server, tokens) for _ in range(_CROWD)))
    total = sum(count for count, _ in answers)
    return total / (time.perf_counter() - started), sum(lines for _, lines in answers) / total


async def _ask(server: Served, tokens: int) -> tuple[int, int]:
    """How many tokens an answer has, and in how many lines they came. Raises BadAnswer."""
    stream = await _open(server, tokens)
    await stream.ended.wait()
    lines = stream.lines()
    count = json.loads(lines[-1][1])["eval_count"]
    assert count == tokens, lines[-1]
    return count, len(lines) - 1


async def _open(server: Served, tokens: int) -> Stream:
    body = {"model": "tinychat", "prompt": "Words.", "raw": True, "options": {"num_predict": tokens}}
    data = json.dumps(body).encode()
    head = b"POST /api/generate HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    stream = Stream(head + b"Content-Length: %d\r\n\r\n%b" % (len(data), data))
    await stream.ask("127.0.0.1", int(server.url.rpartition(":")[2]))
    return stream
