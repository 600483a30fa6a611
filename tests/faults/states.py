"""R26: servers and models' processes that are killed while they write prompts to disk. Nothing wrong is ever served."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import psutil

from tests.faults.measure import Counts, Line, kept
from tests.faults.models import ONE, provide, runner_of
from tests.faults.streams import PATIENCE
from tests.serving import LOOPBACK, Served, serving

_WORDS = 420  # of a prompt
_WINDOW = 0.06  # seconds behind an unload in which something is killed: a write takes about a third of that
_LIMIT = "12MiB"  # four states or so: files are removed, too
_OPTIONS = {"num_ctx": 1024, "num_predict": 12, "temperature": 0, "num_thread": 1}


def killed_writes(folder: Path, counts: Counts) -> Iterator[Line]:
    """R26."""
    dice = random.Random(7)
    disk = {"OLLAMA_NUM_PARALLEL": "2", "PRONK_PROMPT_CACHE_DISK": f"{folder / 'cache'}:{_LIMIT}"}
    with serving(folder / "models") as server:  # what is computed without a disk
        provide(server, folder, ONE)
        wanted = [_asked(server, number)[0] for number in range(counts.writes + 2)]
    wrong = hits = left = halves = 0
    for kill in range(counts.writes):
        with serving(folder / "models", **disk) as server:
            left += len([*(folder / "cache").rglob(".new-*")])
            for number in (kill, kill + 1):  # the first one was being written at the last kill
                text, known = _asked(server, number)
                wrong += text != wanted[number]
                hits += known
            runner = runner_of(server, folder, ONE)
            _post(server, {"model": ONE, "keep_alive": 0})
            time.sleep(dice.uniform(0, _WINDOW))
            if kill % 2:
                with suppress(psutil.NoSuchProcess):
                    runner.kill()
                text, known = _asked(server, kill + 1)
                wrong += text != wanted[kill + 1]
                hits += known
                _post(server, {"model": ONE, "keep_alive": 0})
                time.sleep(dice.uniform(0, _WINDOW))
            server.process.kill()
            server.process.wait()
        halves += len([*(folder / "cache").rglob(".new-*")])
    goal = f"{counts.writes} kills while prompts are written to disk: every answer is right"
    told = f"{wrong} wrong; {halves} files were half written, {hits} prompts came from the disk"
    yield kept("R26", goal, told, not wrong and hits > 0)
    yield kept("R26", "a restart leaves nothing half written", f"{left} files", not left)


def _asked(server: Served, number: int) -> tuple[str, bool]:
    """The answer to a prompt of its own, and whether that was known."""
    dice = random.Random(number)
    words = ("the", "fox", "river", "runs", "over", "stone", "bridge")
    prompt = f"Story {number}. " + " ".join(dice.choice(words) for _ in range(_WORDS))
    last = _post(server, {"model": ONE, "prompt": prompt, "raw": True, "options": _OPTIONS})
    return last["response"], last.get("prompt_eval_cached", 0) > 0


def _post(server: Served, body: dict[str, Any]) -> dict[str, Any]:
    answer = httpx.post(f"{server.url}/api/generate", json=body | {"stream": False}, timeout=PATIENCE, **LOOPBACK)
    found: dict[str, Any] = answer.raise_for_status().json()
    return found
