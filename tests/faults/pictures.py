"""R25: pictures and text on one model at once, for a while: nothing is lost, and every answer is right."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil

from registry.bundled import FOLDER
from tests.faults.measure import Counts, Line, kept, timed
from tests.faults.models import SIGHT, runner_of
from tests.serving import LOOPBACK, PATIENCE, Served, serving

_EACH = 8  # clients that show pictures, and as many that do not
_WORDS = "([a-z]{2,6} ){40}"  # what an answer without pictures matches
_LONGEST_GAP = 2.0  # seconds
_SIDES = {"left": "red", "right": "blue"}  # what is there in sight.png
_FAILURES = re.compile("level=(ERROR|CRITICAL)|Traceback")


@dataclass(slots=True)
class _Tally:
    """What all clients have seen."""

    pictures: int = 0
    texts: int = 0
    wrong: list[str] = field(default_factory=list)
    longest_gap: float = 0.0


def pictures_beside_text(folder: Path, counts: Counts) -> Iterator[Line]:
    """R25."""
    with serving(folder / "models", OLLAMA_NUM_PARALLEL=str(2 * _EACH)) as server:
        yield from asyncio.run(_together(server, folder, counts))
    failures = len(_FAILURES.findall(server.log.read_text(errors="replace")))
    yield kept("R25", "no error in the log", f"{failures}", not failures)


async def _together(server: Served, folder: Path, counts: Counts) -> list[Line]:
    tally = _Tally()
    async with httpx.AsyncClient(base_url=server.url, **LOOPBACK, timeout=PATIENCE) as client:
        alone = [await _text(client, number, _Tally()) for number in range(_EACH)]
        assert all(re.fullmatch(_WORDS, text) for text in alone), alone
        runner = runner_of(server, folder, SIGHT)
        until = time.monotonic() + counts.picture_seconds
        await asyncio.gather(
            *(_show(client, tally, number, until) for number in range(_EACH)),
            *(_write(client, tally, number, alone[number], until) for number in range(_EACH)),
        )
    same = runner.is_running() and runner.status() != psutil.STATUS_ZOMBIE
    lost = f"{tally.pictures} with a picture, {tally.texts} without; {len(tally.wrong)} lost or wrong"
    told = "; ".join([lost, *tally.wrong[:2]])
    goal = f"{_EACH} pictures beside {_EACH} texts, {counts.picture_seconds:.0f} s: every answer whole and right"
    gap = tally.longest_gap
    return [
        kept("R25", goal, told, not tally.wrong and tally.pictures > 0 and tally.texts > 0),
        kept("R25", "the model's process is the same", f"pid {runner.pid}" if same else "ended", same),
        timed("R25", "no text waits > 2 s for a token", f"longest {1000 * gap:.0f} ms", gap <= _LONGEST_GAP),
    ]


async def _show(client: httpx.AsyncClient, tally: _Tally, number: int, until: float) -> None:
    """Ask about pictures: in turns one of this client's own, and one that all clients show, new each time."""
    picture = (FOLDER / "sight.png").read_bytes()
    turn = 0
    while time.monotonic() < until:
        # What follows a PNG's end is another file with the same pixels: it is encoded anew.
        shown = picture + (f"all {turn}" if turn % 2 else f"{number} {turn}").encode()
        side, colour = list(_SIDES.items())[(number + turn) % 2]
        body = {
            "model": SIGHT,
            "prompt": f"What is on the {side}?",
            "images": [base64.b64encode(shown).decode()],
            "stream": False,
            "options": {"temperature": 0, "num_predict": 12},
        }
        answer = await client.post("/api/generate", json=body)
        if answer.status_code != 200 or colour not in answer.json()["response"]:
            tally.wrong.append(f"{side}: {answer.text[:200]}")
        tally.pictures += 1
        turn += 1


async def _write(client: httpx.AsyncClient, tally: _Tally, number: int, alone: str, until: float) -> None:
    """One text after the other: the same each time, for its seed, whatever is shown beside it."""
    while time.monotonic() < until:
        text = await _text(client, number, tally)
        if text != alone:
            tally.wrong.append(f"text {number}: {text[-80:]}")
        tally.texts += 1


async def _text(client: httpx.AsyncClient, number: int, tally: _Tally) -> str:
    """A streamed answer, held to a pattern: by itself the model would soon end it."""
    form = {"type": "regex", "pattern": _WORDS}
    body = {"model": SIGHT, "prompt": f"Write story {number}.", "format": form, "options": {"seed": number}}
    text, before = "", 0.0
    async with client.stream("POST", "/api/generate", json=body) as answer:
        async for line in answer.aiter_lines():
            now = time.monotonic()
            tally.longest_gap = max(tally.longest_gap, now - before if before else 0.0)
            before = now
            event = json.loads(line)
            text += event.get("response", event.get("error", ""))
    return text
