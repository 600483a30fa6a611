"""R6: what a server and a model's process keep of each request, when all kinds of requests come and go.

Bytes of their own are counted (RssAnon, and what of them was swapped out): mapped weights belong to the page cache.
What a process keeps for good it has after a warm-up, in which its caches become full; from then on it must not grow.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from bench.workload import text
from tests.faults.measure import MIB, Counts, Line, anonymous, kept, timed
from tests.faults.models import ONE, provide, runner_of
from tests.faults.streams import PATIENCE, Stream, story
from tests.serving import LOOPBACK, Served, serving

_CLIENTS = 6
_POINTS = 20  # of measurement
_WORDS = (8, 30, 120, 300)
_PROMPT_CACHE = 8 * MIB
_KIB = 1024

Ask = Callable[[httpx.AsyncClient, Served, int], Awaitable[bool]]
"""Sends the request of this number; whether its answer is the one that is due."""


def leaks(folder: Path, counts: Counts) -> Iterator[Line]:
    """R6."""
    with serving(
        folder / "models",
        OLLAMA_KEEP_ALIVE="-1",
        OLLAMA_NUM_PARALLEL=str(_CLIENTS),
        PRONK_PROMPT_CACHE_RAM=str(_PROMPT_CACHE),
    ) as server:
        provide(server, folder, ONE)
        yield from asyncio.run(_measured(server, folder, counts))


async def _measured(server: Served, folder: Path, counts: Counts) -> list[Line]:
    count = counts.mixed
    async with httpx.AsyncClient(base_url=server.url, **LOOPBACK, timeout=PATIENCE) as client:
        wrong = await _send_all(client, server, range(counts.warm_up))
        runner = runner_of(server, folder, ONE)
        own, child = [anonymous(server.process.pid)], [anonymous(runner.pid)]
        step = max(1, count // _POINTS)
        for first in range(counts.warm_up, counts.warm_up + count, step):
            wrong += await _send_all(client, server, range(first, min(first + step, counts.warm_up + count)))
            own.append(anonymous(server.process.pid))
            child.append(anonymous(runner.pid))
        (shown,) = (await client.get("/api/ps")).json()["models"]
        same = runner_of(server, folder, ONE).pid == runner.pid
    slope = _slope(own, step)
    growth, child_growth = own[-1] - own[0], child[-1] - child[0]
    n = f"{count} requests after {counts.warm_up}"
    grown = f"{own[0] / MIB:.1f} → {own[-1] / MIB:.1f} MiB"
    child_grown = f"{child[0] / MIB:.1f} → {child[-1] / MIB:.1f} MiB, planned {shown['size'] / MIB:.1f}"
    return [
        kept("R6", f"{n} of {len(KINDS)} kinds: every answer as it is due", f"{wrong} wrong", not wrong),
        timed("R6", "the server keeps ≤ 1 KiB of each", f"{slope / _KIB:.2f} KiB; {grown}", slope <= _KIB),
        kept("R6", "and grows ≤ 32 MiB", f"{growth / MIB:.1f} MiB", growth <= 32 * MIB),
        timed("R6", "the model's process grows ≤ 3 %", child_grown, child_growth <= 0.03 * child[0]),
        timed("R6", "and takes ≤ 1.03 of what is planned", child_grown, child[-1] <= 1.03 * shown["size"]),
        kept("R6", "it is the same process", "yes" if same else "no", same),
    ]


def _slope(sizes: list[int], step: int) -> float:
    """Bytes for each request, of the line that lies closest to what was measured after each `step` of them."""
    slope, _ = np.polyfit(np.arange(len(sizes)) * step, sizes, 1)
    return float(slope)


async def _send_all(client: httpx.AsyncClient, server: Served, numbers: range) -> int:
    """Send these requests, some at once; returns how many were not answered as they should be."""
    gate = asyncio.Semaphore(_CLIENTS)

    async def send(number: int) -> bool:
        async with gate:
            return await KINDS[number % len(KINDS)](client, server, number)

    return (await asyncio.gather(*map(send, numbers))).count(False)


def _words(number: int) -> str:
    return text(_WORDS[number // len(KINDS) % len(_WORDS)], f"leak {number}")


def _body(number: int, **fields: Any) -> dict[str, Any]:
    return {"model": ONE, "options": {"num_predict": 6, "num_ctx": 1024, "num_thread": 1, "seed": number}, **fields}


def _chat(number: int, **fields: Any) -> dict[str, Any]:
    return _body(number, messages=[{"role": "user", "content": _words(number)}], think=False, **fields)


async def _chat_streamed(client: httpx.AsyncClient, server: Served, number: int) -> bool:
    async with client.stream("POST", "/api/chat", json=_chat(number)) as response:
        lines = [json.loads(line) async for line in response.aiter_lines()]
    return bool(lines[-1].get("eval_count") == 6)


async def _chat_whole(client: httpx.AsyncClient, server: Served, number: int) -> bool:
    answer = (await client.post("/api/chat", json=_chat(number, stream=False))).json()
    return bool(answer.get("eval_count") == 6)


async def _openai(client: httpx.AsyncClient, server: Served, number: int) -> bool:
    messages = [{"role": "user", "content": _words(number)}]
    body = {"model": ONE, "messages": messages, "max_tokens": 6, "stream": True, "num_ctx": 1024}
    return (await client.post("/v1/chat/completions", json=body)).text.endswith("data: [DONE]\n\n")


async def _held(client: httpx.AsyncClient, server: Served, number: int) -> bool:
    """A choice of words; there are a few such grammars, which are kept."""
    choices = [f"yes {number % 5}", f"no {number % 5}"]
    body = _chat(number, stream=False, format={"type": "choice", "choices": choices})
    del body["options"]["num_predict"]
    return (await client.post("/api/chat", json=body)).json().get("message", {}).get("content") in choices


async def _embed(client: httpx.AsyncClient, server: Served, number: int) -> bool:
    texts = [_words(number), f"second {number}"]
    body = {"model": ONE, "input": texts, "options": {"num_ctx": 1024}}
    return len((await client.post("/api/embed", json=body)).json().get("embeddings", ())) == 2


async def _raw(client: httpx.AsyncClient, server: Served, number: int) -> bool:
    body = _body(number, prompt=_words(number), raw=True, stream=False)
    return bool((await client.post("/api/generate", json=body)).json().get("eval_count") == 6)


async def _left(client: httpx.AsyncClient, server: Served, number: int) -> bool:
    stream = await Stream(server, story(ONE) | {"prompt": _words(number)}).start()
    await stream.begun()
    stream.leave()
    return stream.status == 200


async def _refused(client: httpx.AsyncClient, server: Served, number: int) -> bool:
    """Mistakes by turns: an option, an unknown model, a format, a body that ends too early."""
    path, content, status = _MISTAKES[number // len(KINDS) % len(_MISTAKES)]
    return (await client.post(path, content=content.replace("NUMBER", str(number)))).status_code == status


_MISTAKES = (
    ("/api/generate", f'{{"model":"{ONE}","prompt":"NUMBER","options":{{"top_k":"many"}}}}', 400),
    ("/api/chat", '{"model":"unknown-NUMBER","messages":[{"role":"user","content":"Hi"}]}', 404),
    ("/api/generate", f'{{"model":"{ONE}","prompt":"NUMBER","format":"yaml"}}', 400),
    ("/v1/chat/completions", f'{{"model":"{ONE}","messages":[{{"role":"user","content":"NUMBER"', 400),
)
KINDS: tuple[Ask, ...] = (_chat_streamed, _chat_whole, _openai, _held, _embed, _raw, _left, _refused)
