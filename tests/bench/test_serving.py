"""The server under test, for real: started, asked, measured, stopped."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from bench.api import Api, CannotCreate
from bench.client import Client
from bench.measure import Metered, cold_load
from bench.serving import LocalServer
from bench.workload import SHORT
from registry.bundled import MODELS
from registry.names import ModelName
from tests.processes import NewChildren

TINYCHAT = MODELS[ModelName.parse("tinychat")].path


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("store")
    with LocalServer(root) as server:
        Api(server.url).create("bench-tinychat", TINYCHAT)
    return root


def test_a_created_model_answers_and_is_metered(store: Path) -> None:
    with LocalServer(store) as server:
        api, client = Api(server.url), Client(server.url, "bench-tinychat")
        assert api.has("bench-tinychat")  # created by a server before this one
        assert not api.has("nobody")
        before = server.processes.cpu_seconds()
        metered = Metered(client, server.processes)
        assert metered.run(["a"], 4).tokens == (4,)
        assert metered.run(["b", "c"], 4).tokens == (4, 4)
        rounding = 1e-6  # of sums in another order; the clock itself goes in steps of 10 ms
        assert metered.cost * 12 / 1e3 <= server.processes.cpu_seconds() - before + rounding
        assert cold_load(api, client, "bench-tinychat", 0) > 0
        resident, own = server.processes.front_memory()
        assert 0 < own <= resident
        assert server.processes.separate
        assert server.processes.model_memory() > TINYCHAT.stat().st_size


def test_nothing_is_left_of_it(store: Path) -> None:
    children = NewChildren()
    with LocalServer(store) as server:
        Client(server.url, "bench-tinychat").run(SHORT.prompts(0), SHORT.tokens)
        family = children()
        assert len(family) >= 2
    psutil.wait_procs(family, timeout=5)
    assert not any(process.is_running() for process in family)


def test_a_server_that_cannot_make_a_model_says_so(store: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"no model")
    with LocalServer(store) as server, pytest.raises(CannotCreate, match="bench-broken"):
        Api(server.url).create("bench-broken", broken)
