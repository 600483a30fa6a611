"""What is said of children that die, and whose fault it is found to be: real ones, killed by real signals."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import psutil
import pytest

from engine.api import ChatRequest, Message
from engine.engine import Engine
from engine.errors import LoadCrashed, LoadFailed, RunnerDied
from engine.loading.crashes import ANYHOW, IN_A_ROW, VERDICT_LASTS, LoadCrashes, LoadIdentity, how_it_ended
from engine.loading.process import RunnerProcess
from engine.messages import Loaded
from engine.selftest import Outcome, SelfTest, processor
from registry.manifest import MODEL, SYSTEM, Layer, Manifest
from registry.names import ModelName
from registry.storage.store import Store
from tests.engine.broken_library import DIES, DIES_AT_LOAD, broken_library
from tests.engine.running import collect, running
from tests.modelfile.create.models import TINYCHAT
from tests.serving import GREEDY


@pytest.mark.parametrize(
    ("code", "last_words", "reason"),
    [
        (0, "", "it ended with exit status 0"),
        (1, "internal error: KeyError", "internal error: KeyError"),
        (
            -4,
            "",
            "it died of SIGILL (Illegal instruction) on CPU: the engine does not fit this processor; `make engine` ",
        ),
        (-11, "", "it died of SIGSEGV (Segmentation fault) on CPU: `pronk doctor` tests "),
        (-8, "", "it died of SIGFPE (Floating point exception) on CPU: `pronk doctor` tests "),
        (-7, "", "it died of SIGBUS (Bus error) on CPU: a file of the model was cut short, or its disk failed"),
        (-6, "", "it died of SIGABRT (Aborted) on CPU: llama.cpp gave up; the server's log has its last words"),
        (
            -6,
            "ops.cpp:1: GGML_ASSERT(x) failed",
            "it died of SIGABRT (Aborted) on CPU: llama.cpp gave up: ops.cpp:1: GGM",
        ),
        (-9, "", "it was killed by signal 9 (SIGKILL)"),
        (-9, "it gave no sign of life", "it gave no sign of life"),
        (-15, "", "it was ended by SIGTERM (Terminated)"),
    ],
)
def test_one_line_for_each_end(code: int, last_words: str, reason: str) -> None:
    if code in (-signal.SIGBUS, -7):
        code = -signal.SIGBUS  # its number is not the same everywhere
    assert how_it_ended(code, last_words).replace(processor(), "CPU").startswith(reason)


def store_copy(store: Store, name: str) -> str:
    """Store tinychat under another name, with other weights; returns the name of their file."""
    base = store.find(ModelName.parse("tinychat")).manifest
    layer = Layer(MODEL, *store.add_blob(TINYCHAT.read_bytes() + bytes(32)))
    store.write_manifest(ModelName.parse(name), Manifest(base.config, (layer,)))
    return store.blob_path(layer.digest).name


def deadly_layers(store: Store) -> tuple[Layer, ...]:
    """Those of the deadly model, and a system prompt."""
    layers = store.find(ModelName.parse("deadly")).manifest.layers
    return (*layers, Layer(SYSTEM, *store.add_blob(b"Be brief.")))


async def ask(engine: Engine, model: str) -> str:
    messages = [Message("user", "What is the capital of France?")]
    request = ChatRequest(model=model, messages=messages, options=GREEDY, think=False)
    return (await collect(engine.chat(request)))[0]


async def failed(engine: Engine, model: str) -> str:
    with pytest.raises(LoadFailed) as caught:
        await ask(engine, model)
    return str(caught.value)


async def test_a_model_that_kills_at_each_load_is_found_out_and_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    models = tmp_path / "models"
    async with running(models) as engine:
        deadly = store_copy(engine.store, "deadly")
    library = broken_library(tmp_path, DIES_AT_LOAD.format(which=deadly.encode()))
    monkeypatch.setenv("PYTHONPATH", library["PYTHONPATH"])
    async with running(models) as engine:
        for _ in range(IN_A_ROW - 1):
            reason = await failed(engine, "deadly")
            assert reason.startswith("llama-server process has terminated: it died of SIGSEGV (Segmentation fault) on ")
        reason = await failed(engine, "deadly")
        assert reason.startswith("loading 'deadly:latest' has killed its process 3 times, last by SIGSEGV (")
        assert reason.endswith(
            "; it is tried again after 5 minutes, or once another version of it is pulled or created"
        )
        assert "the engine's self-test passes on " in reason
        children = len(psutil.Process().children())
        assert await failed(engine, "deadly") == reason, "at once, without another process"
        assert len(psutil.Process().children()) == children
        assert await ask(engine, "tinychat") == "The capital of France is Paris."
        other = Manifest(engine.store.find(ModelName.parse("deadly")).manifest.config, deadly_layers(engine.store))
        engine.store.write_manifest(ModelName.parse("deadly"), other)
        assert (await failed(engine, "deadly")).startswith("llama-server process has terminated"), "it is tried again"
    assert "failed to load deadly:latest: llama-server process has terminated: it died of SIGSEGV" in caplog.text
    assert str(tmp_path) not in reason


async def test_a_library_that_kills_at_each_load_is_the_installations_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = broken_library(tmp_path, DIES_AT_LOAD.format(which=b"/"))
    monkeypatch.setenv("PYTHONPATH", library["PYTHONPATH"])
    async with running(tmp_path / "models") as engine:
        for _ in range(IN_A_ROW - 1):
            assert "self-test" not in await failed(engine, "tinychat")
        for _ in range(2):
            reason = await failed(engine, "tinychat")
            assert "the engine's self-test died on " in reason
            assert reason.endswith("the installation is at fault; `make engine` compiles it anew")


async def test_a_library_that_kills_at_the_first_prompt_is_the_installations_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    library = broken_library(tmp_path, DIES.format(signal="SIGILL"))
    monkeypatch.setenv("PYTHONPATH", library["PYTHONPATH"])
    async with running(tmp_path / "models") as engine:
        for _ in range(IN_A_ROW):
            with pytest.raises(RunnerDied, match=r": it died of SIGILL \(Illegal instruction\) on "):
                await ask(engine, "tinychat")
        for _ in range(1000):  # it is found out by and by
            if "the engine's self-test died on " in caplog.text:
                break
            await asyncio.sleep(0.1)
        with pytest.raises(RunnerDied, match=r"it died of SIGILL .*; the engine's self-test died on .*: the installa"):
            await ask(engine, "tinychat")


async def test_deaths_of_a_process_that_has_nothing_to_do_are_no_models_fault(tmp_path: Path) -> None:
    async with running(tmp_path / "models") as engine:
        for _ in range(IN_A_ROW + 1):
            assert await ask(engine, "tinychat") == "The capital of France is Paris."
            engine._pool._spare.prepare()
            spare = engine._pool._spare._process
            assert spare is not None
            os.kill((await spare).pid, signal.SIGSEGV)
            (model,) = engine.running()
            (loaded,) = engine._pool._loaded.values()
            engine._pool.expire(str(engine.models.resolve(model.name).weights))
            await loaded.process.exited.wait()


SEGFAULT = LoadCrashed("it died", "SIGSEGV (Segmentation fault)")


async def count(crashes: LoadCrashes, load: str, times: int, error: LoadCrashed = SEGFAULT) -> str:
    reasons = [await crashes.died(load, "deadly", error) for _ in range(times)]
    return reasons[-1]


async def passes() -> SelfTest:
    return SelfTest(Outcome.OK)


async def dies() -> SelfTest:
    return SelfTest(Outcome.DIED, "SIGILL (Illegal instruction)")


async def test_a_verdict_ends_by_itself() -> None:
    now = 0.0
    crashes = LoadCrashes(passes, lambda: now)
    reason = await count(crashes, "load", IN_A_ROW)
    assert crashes.verdict("load") == reason
    assert crashes.verdict("another") is None
    now = VERDICT_LASTS - 1
    assert crashes.verdict("load") == reason
    now = VERDICT_LASTS
    assert crashes.verdict("load") is None
    assert await count(crashes, "load", IN_A_ROW - 1) == "it died", "it has all its tries again"
    assert "3 times" in await count(crashes, "load", 1)


def test_loads_that_are_killed_again_and_again_have_to_wait_longer_each_time() -> None:
    now = 0.0
    crashes = LoadCrashes(passes, lambda: now)
    assert [crashes.killed("load", "killed") for _ in range(IN_A_ROW - 1)] == ["killed"] * (IN_A_ROW - 1)
    for pause in (5, 10, 20, 40, 80, 160, 300, 300):
        assert crashes.verdict("load") is None
        assert crashes.killed("load", "killed").endswith(f"is tried after {pause} seconds")
        now += pause - 1
        assert "loads in a row have ended so" in (crashes.verdict("load") or "")
        now += 1
    crashes.survived("load")
    assert crashes.killed("load", "killed") == "killed"
    assert crashes.verdict("another") is None


async def test_a_load_that_is_killed_each_time_does_not_spin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loads = 0
    load = RunnerProcess.load

    async def killed(process: RunnerProcess, *arguments: Any) -> Loaded:
        nonlocal loads
        loads += 1
        process.kill()
        return await load(process, *arguments)

    monkeypatch.setattr(RunnerProcess, "load", killed)
    async with running(tmp_path / "models") as engine:
        reasons = [await failed(engine, "tinychat") for _ in range(6 * IN_A_ROW)]
    assert "was killed by signal 9 (SIGKILL)" in reasons[0]
    assert "loads in a row have ended so" in reasons[-1]
    assert loads <= 3 * IN_A_ROW  # each of the first requests tries leaner ways, too


async def test_deaths_before_a_model_was_given_are_not_its_fault() -> None:
    crashes = LoadCrashes(passes)
    reason = await count(crashes, "load", IN_A_ROW, LoadCrashed("it died", "SIGSEGV", model_sent=False))
    assert reason.startswith("it died; the engine's self-test passed")
    assert crashes.verdict("load") is None
    assert await count(crashes, "load", IN_A_ROW - 1) == "it died"


async def test_what_helps_is_said_once() -> None:
    text = how_it_ended(-signal.SIGILL)
    assert text.count("make engine") == 1
    reason = await count(LoadCrashes(dies), "load", IN_A_ROW, LoadCrashed(text, "SIGILL"))
    assert reason.startswith("it died of SIGILL")
    assert reason.count("make engine") == 1


async def test_deaths_at_first_requests_count_too() -> None:
    crashes = LoadCrashes(passes)
    for _ in range(IN_A_ROW - 1):
        crashes.died_at_work("load", "deadly", "SIGABRT (Aborted)")
    await asyncio.sleep(0)
    assert crashes.verdict("load") is None
    crashes.died_at_work("load", "deadly", "SIGABRT (Aborted)")
    await asyncio.gather(*crashes._counting)
    reason = crashes.verdict("load")
    assert reason is not None
    assert reason.startswith(
        "the first request to 'deadly' has killed its process 3 times, last by SIGABRT (Aborted), "
    )
    await crashes.close()


async def test_one_line_for_each_load(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "pronk.engine")
    async with running(tmp_path / "models") as engine:
        await ask(engine, "tinychat")
        (running_model,) = engine.running()
    (line,) = [vars(record)["fields"] for record in caplog.records if record.getMessage() == "loaded"]
    assert (line["model"], line["gpu_layers"], line["devices"]) == ("tinychat:latest", 0, "cpu")
    assert all(line[name] > 0 for name in ("pid", "seconds", "cells", "parallel", "context", "layers"))
    planned, resident = line["planned_bytes"], line["resident_bytes"]
    assert line["mapped_bytes"] + line["host_bytes"] + line["cache_bytes"] < resident
    assert 0.5 < planned / resident < 2
    assert abs(running_model.size - planned) < 2 * line["mapped_bytes"]
    (end,) = [vars(record)["fields"] for record in caplog.records if record.getMessage() == "unloaded"]
    assert (end["model"], end["pid"], end["reason"]) == ("tinychat:latest", line["pid"], "the server stops")


async def test_weights_that_crash_with_other_options_each_time_are_found_out() -> None:
    async def passes() -> SelfTest:
        return SelfTest(Outcome.OK, "the engine's self-test passes")

    crashes, now = LoadCrashes(passes, lambda: now), 0.0
    error = LoadCrashed("it died of SIGSEGV", "SIGSEGV")
    for number in range(ANYHOW):
        load = LoadIdentity("weights", 1000 + number, f"options {number}")
        assert crashes.verdict(load) is None
        text = await crashes.died(load, "m", error)
        assert ("the model is at fault" in text) == (number == ANYHOW - 1)
    assert crashes.verdict(LoadIdentity("weights", 5000)) == text
    assert crashes.verdict(LoadIdentity("weights", 501)) == text
    assert crashes.verdict(LoadIdentity("weights", 500)) is None, "it may work with less"
    assert crashes.verdict(LoadIdentity("others", 5000)) is None
    await crashes.died(LoadIdentity("weights", 500), "m", error)
    assert crashes.verdict(LoadIdentity("weights", 251)), "it does not"
    now = VERDICT_LASTS
    assert crashes.verdict(LoadIdentity("weights", 5000)) is None


async def test_weights_that_work_with_some_options_are_not_at_fault_with_those() -> None:
    async def passes() -> SelfTest:
        return SelfTest(Outcome.OK, "the engine's self-test passes")

    crashes = LoadCrashes(passes)
    for number in range(2 * ANYHOW):
        await crashes.died(LoadIdentity("weights", 1000 + number), "m", LoadCrashed("it died", "SIGSEGV"))
        crashes.survived(LoadIdentity("weights", 10))
    assert crashes.verdict(LoadIdentity("weights", 5000)) is None
