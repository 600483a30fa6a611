"""A creation whose client leaves, whose worker dies or whose server is killed leaves a store that is whole."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import psutil

from tests.golden.probes import WEIGHTS, digest_of
from tests.processes import descendants
from tests.registry.stores import check_whole, files
from tests.serving import LOOPBACK, PATIENCE, Served, serving

QUANTIZING = "quantizing F16 model to Q4_K_M"


def create(server: Served) -> Iterator[dict[str, Any]]:
    """The steps of a creation that quantises, as they come; whoever stops reading leaves."""
    weights = WEIGHTS["{F16}"].read_bytes()
    digest = digest_of(weights)
    body = {"model": "made", "files": {"m.gguf": digest}, "quantize": "q4_K_M", "system": "Hi"}
    with httpx.Client(base_url=server.url, **LOOPBACK, timeout=PATIENCE) as client:
        client.post(f"/api/blobs/{digest}", content=weights).raise_for_status()
        with client.stream("POST", "/api/create", json=body) as answer:
            yield from map(json.loads, answer.iter_lines())


def until(steps: Iterator[dict[str, Any]], status: str) -> None:
    """Read up to this step."""
    assert any(step.get("status", "").startswith(status) for step in steps)


def workers(server: Served) -> list[psutil.Process]:
    return descendants(server.process.pid, "modelfile.worker")


def gone(server: Served) -> None:
    """Wait until no worker is left, and nothing that it wrote."""
    deadline = time.monotonic() + PATIENCE
    while workers(server) or list(server.store.glob("making-*")):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def listed(server: Served) -> list[str]:
    return [model["name"] for model in httpx.get(f"{server.url}/api/tags", **LOOPBACK).json()["models"]]


def test_a_client_that_leaves(server: Served) -> None:
    steps = create(server)
    until(steps, QUANTIZING)
    assert workers(server)
    before = files(server.store / "blobs")
    steps.close()
    gone(server)
    assert files(server.store / "blobs") == before
    assert listed(server) == []


def test_a_worker_that_is_killed(server: Served) -> None:
    steps = create(server)
    until(steps, QUANTIZING)
    for worker in workers(server):
        worker.kill()
    *_, last = steps
    assert last == {"error": "the process that worked on the weights has unexpectedly stopped: Killed"}
    gone(server)
    assert listed(server) == []
    assert list(create(server))[-1] == {"status": "success"}
    assert listed(server) == ["made:latest"]


def test_a_server_that_is_killed(tmp_path: Path) -> None:
    """Again and again, in another step each time; the next one goes on with what it left."""
    for status in (QUANTIZING, "verifying", "writing manifest"):
        with serving(tmp_path / "models") as server:
            steps = create(server)
            until(steps, status)
            children = server.runners()
            server.process.kill()
            server.process.wait()
            _, alive = psutil.wait_procs(children, timeout=PATIENCE)
            assert not alive
            with suppress(httpx.TransportError):
                list(steps)
        check_whole(tmp_path / "models")
    with serving(tmp_path / "models") as server:
        assert listed(server) in ([], ["made:latest"])
        assert list(create(server))[-1] == {"status": "success"}
        assert listed(server) == ["made:latest"]
        check_whole(server.store)
