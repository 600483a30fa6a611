"""Models in published layouts on a real server, whose processes and whose disk may fail on the way."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import pytest

from engine.loading.load_options import SMALLEST_SEEING_CONTEXT
from tests.engine.loading.test_derivations import add
from tests.modelfile.published.models import Model
from tests.modelfile.published.pairs import PAIRS
from tests.registry.stores import check_whole, files
from tests.serving import LOOPBACK, PATIENCE, Served, serving

BULK = 64 << 10
ASKED = {"prompt": "hello ab", "raw": True, "stream": False}
OPTIONS = {"temperature": 0, "num_predict": 8, "num_ctx": 64}


def add_small(root: Path) -> None:
    """Store a published model, and the same in llama.cpp's layout."""
    pair = PAIRS["gemma3"]()
    add(root, "published", pair.published)
    add(root, "expected", pair.expected)


def add_large(root: Path) -> None:
    """Store a published model that takes a moment to copy."""
    published = PAIRS["gemma3"]().published
    published.weights["mm.bulk"] = np.zeros((BULK, 512), np.float16)
    add(root, "published", published)


def post(server: Served, path: str, **body: Any) -> httpx.Response:
    return httpx.post(f"{server.url}{path}", json=body, **LOOPBACK, timeout=PATIENCE)


def ask(server: Served, model: str) -> httpx.Response:
    return post(server, "/api/generate", model=model, options=OPTIONS, **ASKED)


def get(server: Served, path: str) -> dict[str, Any]:
    found: dict[str, Any] = httpx.get(f"{server.url}{path}", **LOOPBACK).json()
    return found


def delete(server: Served, model: str) -> None:
    """Delete a model, and wait until it is loaded no more."""
    httpx.request("DELETE", f"{server.url}/api/delete", json={"model": model}, **LOOPBACK).raise_for_status()
    deadline = time.monotonic() + PATIENCE
    while any(loaded["name"] == f"{model}:latest" for loaded in get(server, "/api/ps")["models"]):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def workers(server: Served) -> list[psutil.Process]:
    return [process for process in server.runners() if "modelfile.worker" in process.cmdline()]


def half_made(server: Served) -> list[Path]:
    """What is being written, once it is."""
    deadline = time.monotonic() + PATIENCE
    while not (found := list(server.store.glob("derived/*.incoming-*"))):
        assert time.monotonic() < deadline
        time.sleep(0.002)
    return found


def made(server: Served) -> set[str]:
    return {path.name.split(".")[1] for path in server.store.glob("derived/*.gguf")}


def test_it_answers_and_looks_as_it_was_published(server: Served) -> None:
    add_small(server.store.parent)
    tags = get(server, "/api/tags")
    before = files(server.store / "blobs")
    assert ask(server, "published").json()["response"] == ask(server, "expected").json()["response"]
    assert get(server, "/api/tags") == tags
    assert files(server.store / "blobs") == before
    check_whole(server.store)
    assert made(server) == {"gemma3-1-text", "gemma3-1-projector"}
    shown = post(server, "/api/show", model="published").json()
    assert "vision" in shown["capabilities"]
    assert shown["model_info"]["gemma3.vision.block_count"] == 1
    running = {model["name"]: model for model in get(server, "/api/ps")["models"]}
    listed = {model["name"]: model for model in tags["models"]}
    assert running["published:latest"]["digest"] == listed["published:latest"]["digest"]
    assert running["published:latest"]["context_length"] == SMALLEST_SEEING_CONTEXT
    delete(server, "published")
    assert made(server) == set()
    delete(server, "expected")


def test_an_unknown_layout_is_named(server: Served) -> None:
    add(server.store.parent, "unknown", Model("glmocr", {"glmocr.block_count": 1}, {"x": np.zeros(32, np.float32)}))
    answer = ask(server, "unknown")
    reason = "the architecture 'glmocr' in the layout of Ollama's own engine is not supported yet"
    assert (answer.status_code, answer.json()) == (500, {"error": f"failed to load model: {reason}"})
    other = post(server, "/v1/embeddings", model="unknown", input="Hi")
    assert (other.status_code, other.json()["error"]["type"]) == (500, "api_error")
    assert post(server, "/api/generate", model="unknown", keep_alive=0).status_code == 200
    assert post(server, "/api/show", model="unknown").status_code == 200


def test_the_process_that_makes_it_is_killed(server: Served) -> None:
    add_large(server.store.parent)
    with ThreadPoolExecutor() as pool:
        answer = pool.submit(ask, server, "published")
        half_made(server)
        for worker in workers(server):
            worker.kill()
        reason = "the process that worked on the weights has unexpectedly stopped: Killed"
        assert answer.result().json() == {"error": f"failed to load model: {reason}"}
        assert answer.result().status_code == 500
        assert not made(server)
        assert ask(server, "published").status_code == 200
        assert not list(server.store.glob("derived/*.incoming-*"))
    delete(server, "published")


def test_the_server_is_killed(tmp_path: Path) -> None:
    add_large(tmp_path)
    with serving(tmp_path / "models") as server, ThreadPoolExecutor() as pool:
        answer = pool.submit(ask, server, "published")
        half_made(server)
        children = server.runners()
        server.process.kill()
        server.process.wait()
        _, alive = psutil.wait_procs(children, timeout=PATIENCE)
        assert not alive
        assert isinstance(answer.exception(), httpx.TransportError)
    check_whole(tmp_path / "models")
    assert len(list((tmp_path / "models").glob("derived/*.incoming-*"))) == 1
    with serving(tmp_path / "models") as server:
        deadline = time.monotonic() + PATIENCE  # what the dead one left goes at the start
        while list(server.store.glob("derived/*.incoming-*")):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert ask(server, "published").status_code == 200
        assert not list(server.store.glob("derived/*.incoming-*"))


def test_a_client_that_leaves(server: Served) -> None:
    add_large(server.store.parent)
    body = {"model": "published", "options": OPTIONS, **ASKED}
    with pytest.raises(httpx.TimeoutException):
        httpx.post(f"{server.url}/api/generate", json=body, **LOOPBACK, timeout=0.1)
    deadline = time.monotonic() + PATIENCE
    while made(server) != {"gemma3-1-text", "gemma3-1-projector"}:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert get(server, "/api/ps") == {"models": []}


def test_two_servers_on_one_store(tmp_path: Path) -> None:
    add_small(tmp_path)
    with serving(tmp_path / "models") as one, serving(tmp_path / "models") as other, ThreadPoolExecutor() as pool:
        answers = [pool.submit(ask, server, "published") for server in (one, other)]
        assert answers[0].result().json()["response"] == answers[1].result().json()["response"]
        assert len(list(one.store.glob("derived/*"))) == 2
