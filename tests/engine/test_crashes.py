"""What is said of children that die, and whose fault it is found to be: real ones, killed by real signals."""

from __future__ import annotations

import re
import signal
from pathlib import Path

import psutil
import pytest

from engine.crashes import IN_A_ROW, how_it_ended
from engine.engine import Engine
from engine.errors import LoadFailed
from engine.requests import ChatRequest, Message
from engine.selftest import processor
from registry.manifest import MODEL, Layer, Manifest
from registry.names import ModelName
from registry.store import Store
from tests.engine.broken_library import DIES_AT_LOAD, broken_library
from tests.engine.running import collect, running
from tests.modelfile.create.models import TINYCHAT
from tests.serving import GREEDY


@pytest.mark.parametrize(
    ("code", "last_words", "told"),
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
        (-9, "", "it was killed (SIGKILL), maybe because the system ran out of memory"),
        (-9, "it gave no sign of life", "it gave no sign of life"),
        (-15, "", "it was ended by SIGTERM (Terminated)"),
    ],
)
def test_one_line_for_each_end(code: int, last_words: str, told: str) -> None:
    if code in (-signal.SIGBUS, -7):
        code = -signal.SIGBUS  # its number is not the same everywhere
    assert how_it_ended(code, last_words).replace(processor(), "CPU").startswith(told)


def store_copy(store: Store, name: str) -> str:
    """Store tinychat under another name, with other weights; returns the name of their file."""
    base = store.find(ModelName.parse("tinychat")).manifest
    layer = Layer(MODEL, *store.add_blob(TINYCHAT.read_bytes() + bytes(32)))
    store.write_manifest(ModelName.parse(name), Manifest(base.config, (layer,)))
    return store.blob_path(layer.digest).name


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
            told = await failed(engine, "deadly")
            assert told.startswith("llama-server process has terminated: it died of SIGSEGV (Segmentation fault) on ")
        told = await failed(engine, "deadly")
        assert told.startswith("loading 'deadly:latest' has killed its process 3 times, last by SIGSEGV (")
        assert "the engine's self-test passes on " in told
        children = len(psutil.Process().children())
        assert await failed(engine, "deadly") == told, "at once, without another process"
        assert len(psutil.Process().children()) == children
        assert await ask(engine, "tinychat") == "The capital of France is Paris."
    assert "failed to load deadly:latest: llama-server process has terminated: it died of SIGSEGV" in caplog.text
    assert str(tmp_path) not in told


async def test_a_library_that_kills_at_each_load_is_the_installations_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = broken_library(tmp_path, DIES_AT_LOAD.format(which=b"/"))
    monkeypatch.setenv("PYTHONPATH", library["PYTHONPATH"])
    async with running(tmp_path / "models") as engine:
        for _ in range(IN_A_ROW - 1):
            assert "self-test" not in await failed(engine, "tinychat")
        for _ in range(2):
            told = await failed(engine, "tinychat")
            assert "the engine's self-test died on " in told
            assert told.endswith("the installation is at fault, `make engine` compiles the engine anew")


async def test_one_line_for_each_load(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "pronk.engine")
    async with running(tmp_path / "models") as engine:
        await ask(engine, "tinychat")
        (running_model,) = engine.running()
    (line,) = [record.getMessage() for record in caplog.records if record.getMessage().startswith("loaded ")]
    number = r"(\d+\.\d) MiB"
    found = re.fullmatch(
        rf"loaded tinychat:latest in \d+\.\d\d s: pid \d+, {number} planned, {number} resident; "
        rf"weights {number} mapped and {number} copied, KV cache {number} for \d+ tokens, \d+ sequences of \d+; "
        r"\d+% of the layers on a GPU",
        line,
    )
    assert found, line
    planned, resident, mapped, copied, cache = map(float, found.groups())
    assert mapped + copied + cache < resident
    assert 0.5 < planned / resident < 2
    assert abs(running_model.size / (1 << 20) - planned) < 2 * mapped
