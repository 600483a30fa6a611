"""PRONK_PRELOAD: which models are loaded at the start, and what probes are told meanwhile."""

from __future__ import annotations

import logging
import time
from pathlib import Path

import httpx
import pytest

from engine.api import PreloadRequest
from engine.errors import LoadFailed, ModelNotFound
from registry.storage.store import Store
from server.app import create_app
from server.preload import Preload
from server.settings import Settings
from tests.server.fake_engine import FakeEngine
from tests.serving import LOOPBACK, PATIENCE, Served, serving


def until_ready(served: Served) -> list[str]:
    """What `/readyz` says, one after the other, until it says `ok`."""
    said: list[str] = []
    deadline = time.monotonic() + PATIENCE
    while (answer := httpx.get(f"{served.url}/readyz", **LOOPBACK)).text != "ok" and time.monotonic() < deadline:
        assert answer.status_code == 503
        if answer.text not in said:
            said.append(answer.text)
        time.sleep(0.005)
    assert answer.status_code == 200
    return said


def loaded(served: Served) -> list[str]:
    models = httpx.get(f"{served.url}/api/ps", **LOOPBACK).json()["models"]
    return sorted(model["name"] for model in models)


def test_models_are_loaded_as_far_as_they_fit(tmp_path: Path) -> None:
    store = tmp_path / "models"
    Store(store).seed()
    environ = {"PRONK_PRELOAD": "nowhere:1b, tinychat,tinychat,sight,", "OLLAMA_MAX_LOADED_MODELS": "1"}
    with serving(store, **environ) as served:
        said = until_ready(served)
        assert loaded(served) == ["tinychat:latest"]
        log = served.log.read_text()
    assert set(said) <= {
        "models are being loaded: nowhere:1b, tinychat, sight",
        "models are being loaded: tinychat, sight",
        "models are being loaded: sight",
    }
    warnings = [line.partition("level=WARNING ")[2] for line in log.splitlines() if "not preloaded" in line]
    assert warnings == [
        "not preloaded model=nowhere:1b reason=\"model 'nowhere:1b' not found\"",
        "not preloaded model=sight reason='there is no room for it beside the models that are loaded'",
    ]
    assert " preloading models='nowhere:1b, tinychat, sight'" in log
    assert " preloaded models=tinychat seconds=" in log
    assert " evicted " not in log


def test_a_server_that_stops_while_it_loads(tmp_path: Path) -> None:
    store = tmp_path / "models"
    Store(store).seed()
    with serving(store, PRONK_PRELOAD="tinychat,sight") as served:
        pass
    assert "Traceback" not in served.log.read_text()


async def test_probes_wait_for_the_models_and_name_them(settings: Settings, engine: FakeEngine) -> None:
    preload = Preload(engine, ("a", "b", "c", "a"))
    app = create_app(settings, engine, engine.models)
    app.state.preload = preload
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:11434") as client:
        answer = await client.get("/readyz")
        assert (answer.status_code, answer.text) == (503, "models are being loaded: a, b, c")
        assert (await client.get("/healthz")).text == "ok"
        await preload.run()
        assert (await client.get("/readyz")).text == "ok"
    assert engine.asked == [PreloadRequest(model=name) for name in "abc"]


async def test_what_cannot_be_loaded_is_one_warning(engine: FakeEngine, caplog: pytest.LogCaptureFixture) -> None:
    engine.scripts = [[ModelNotFound("a")], [LoadFailed("no memory")], [OSError("disk")], []]
    preload = Preload(engine, "abcd")
    with caplog.at_level(logging.INFO):
        await preload.run()
    assert preload.unready == ""
    told = [(record.message, vars(record)["fields"]) for record in caplog.records]
    assert told[1:4] == [
        ("not preloaded", {"model": "a", "reason": "model 'a' not found"}),
        ("not preloaded", {"model": "b", "reason": "no memory"}),
        ("not preloaded", {"model": "c", "reason": "disk"}),
    ]
    assert told[4][1]["models"] == "d"


async def test_nobody_waits_for_ever_where_loading_is_cancelled(engine: FakeEngine) -> None:
    engine.script = [RuntimeError("a defect")]
    preload = Preload(engine, "ab")
    with pytest.raises(RuntimeError):
        await preload.run()
    assert preload.unready == ""
