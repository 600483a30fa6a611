"""Processes that are killed again and again, and what the system tells of memory that was short."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from engine.errors import RunnerDied
from engine.loading import control_group
from engine.loading.crashes import how_it_ended
from engine.loading.deaths import TOLD, Deaths, OutOfMemoryKills
from tests.engine.running import collect, endless, running


def test_deaths_of_the_last_minute_count() -> None:
    now = 0.0
    deaths = Deaths(lambda: now)
    assert deaths.lately("a") == (0, 0.0)
    for at in (0.0, 2.0, 8.0):
        now = at
        assert deaths.told("a") == ""
        deaths.note("a")
    assert deaths.told("a") == "3 processes of this model have ended in 8 s; each time it is loaded again"
    assert deaths.told("b") == ""
    now = 61.0
    assert deaths.lately("a") == (2, 6.0)
    now = 100.0
    assert deaths.lately("a") == (0, 0.0)


def test_the_system_tells_whether_memory_was_short() -> None:
    count: int | None = 3
    kills = OutOfMemoryKills(lambda: count)
    kills.begin()
    assert not kills.struck()
    count = 4
    kills.begin()
    assert kills.struck()
    assert not kills.struck()
    count = None
    assert not kills.struck()
    assert how_it_ended(-9, out_of_memory=True).startswith(
        "it was killed by signal 9 (SIGKILL); out of memory is likely"
    )


def test_kills_are_counted_by_the_control_group_or_the_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control_group, "PROC", tmp_path)
    monkeypatch.setattr(control_group, "control_groups", lambda controller: [tmp_path / "inner", tmp_path])
    assert control_group.oom_kills() is None
    (tmp_path / "vmstat").write_text("pgfault 1\noom_kill 7\n")
    assert control_group.oom_kills() == 7
    (tmp_path / "memory.oom_control").write_text("oom_kill_disable 0\nunder_oom 0\noom_kill 5\n")
    assert control_group.oom_kills() == 5
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "memory.events").write_text("low 0\noom 9\noom_kill 2\noom_group_kill 0\n")
    assert control_group.oom_kills() == 2


async def test_a_model_that_is_killed_again_and_again_is_told_as_such(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    texts = []
    async with running(tmp_path / "models") as engine:
        for _ in range(TOLD):
            answer = engine.generate(endless())
            await anext(answer)
            (loaded,) = engine._pool._loaded.values()
            os.kill(loaded.process.pid, signal.SIGKILL)
            with pytest.raises(RunnerDied) as caught:
                await collect(answer)
            texts.append(str(caught.value))
            await loaded.process.exited.wait()
    assert all("killed by signal 9 (SIGKILL)" in text and "memory" not in text.partition(": ")[2] for text in texts)
    assert [f"{TOLD} processes of this model have ended in " in text for text in texts] == [False] * (TOLD - 1) + [True]
    records: list[dict[str, Any]] = [
        vars(record)["fields"] for record in caplog.records if record.message.startswith("process ended unexpectedly")
    ]
    assert [record.get("deaths") for record in records] == [None] * (TOLD - 1) + [TOLD]
