"""What the server says about itself and its models."""

import math
from datetime import datetime

import httpx

from engine.api import RunningModel
from tests.server.fake_engine import FakeEngine

DETAILS = ["parent_model", "format", "family", "families", "parameter_size", "quantization_level"]


async def test_root(client: httpx.AsyncClient) -> None:
    for method in ("GET", "HEAD"):
        answer = await client.request(method, "/")
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert (await client.get("/")).text == "Ollama is running"


async def test_version_and_status(client: httpx.AsyncClient) -> None:
    assert (await client.get("/api/version")).json() == {"version": "0.33.0"}
    assert (await client.get("/api/status")).json() == {"cloud": {"disabled": True, "source": "env"}}


async def test_an_empty_store(client: httpx.AsyncClient) -> None:
    assert (await client.get("/api/tags")).text == '{"models":[]}'
    assert (await client.get("/api/ps")).text == '{"models":[]}'
    assert (await client.get("/v1/models")).json() == {"object": "list", "data": []}


async def test_tags(client: httpx.AsyncClient) -> None:
    await client.post("/api/pull", json={"model": "tinychat"})
    (model,) = (await client.get("/api/tags")).json()["models"]
    assert list(model) == ["name", "model", "modified_at", "size", "digest", "details", "capabilities"]
    assert model["name"] == model["model"] == "tinychat:latest"
    assert len(model["digest"]) == 64
    assert list(model["details"]) == [*DETAILS, "context_length", "embedding_length"]
    assert model["details"]["quantization_level"] == "Q8_0"
    assert sorted(model["capabilities"]) == ["completion", "insert", "thinking", "tools"]
    datetime.fromisoformat(model["modified_at"][:19])


async def test_lengths_that_the_config_states(client: httpx.AsyncClient) -> None:
    await client.post("/api/pull", json={"model": "tinychat"})
    info = {"context_length": 123, "embedding_length": 45}
    await client.post("/api/create", json={"model": "m", "from": "tinychat", "info": info})
    found = {model["name"]: model["details"] for model in (await client.get("/api/tags")).json()["models"]}
    assert [found["m:latest"][key] for key in info] == [123, 45]
    assert [found["tinychat:latest"][key] for key in info] == [1024, 256]


async def test_ps(client: httpx.AsyncClient, engine: FakeEngine) -> None:
    await client.post("/api/pull", json={"model": "tinychat"})
    engine.loaded = [
        RunningModel("tinychat", "d" * 64, 10, 0, 1024, 1e9),
        RunningModel("registry.ollama.ai/library/gone:latest", "e" * 64, 20, 20, 512, math.inf),
    ]
    gone, here = (await client.get("/api/ps")).json()["models"]
    assert list(here) == ["name", "model", "size", "digest", "details", "expires_at", "size_vram", "context_length"]
    assert (here["name"], here["context_length"], here["size_vram"]) == ("tinychat:latest", 1024, 0)
    assert list(here["details"]) == DETAILS
    assert here["details"]["family"] == "qwen3"
    assert (gone["name"], list(gone["details"])) == ("gone:latest", DETAILS)
    assert int(gone["expires_at"][:4]) > 2300
