"""What the server says about itself and its models."""

import math
from datetime import datetime

import httpx

from engine.api import DeviceShare, LoadingModel, LoadPlan, RunningModel
from engine.errors import ModelNotFound
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


SHARE = DeviceShare(
    kind="cuda",
    name="H200",
    handle="CUDA0",
    total=90,
    free=80,
    layers=7,
    weights=1,
    cache=2,
    compute=3,
    other=4,
    prompt_cache=5,
)


async def test_what_ps_says_beyond_ollama(client: httpx.AsyncClient, engine: FakeEngine) -> None:
    full = "registry.ollama.ai/library/{}:latest"
    engine.loaded = [
        RunningModel(
            full.format("a"),
            "d" * 64,
            10,
            10,
            1024,
            1e9,
            devices=(SHARE,),
            others=((full.format("b"), "e" * 64),),
            prompt_cache=6,
            prompt_cache_disk=7,
        )
    ]
    engine.being_loaded = [LoadingModel("c:latest", 30, 4096), LoadingModel("d:latest", None, 512)]
    answer = (await client.get("/api/ps")).json()
    planned, unplanned = answer["loading"]
    assert planned == {"name": "c:latest", "size": 30, "context_length": 4096}
    assert unplanned == {"name": "d:latest", "context_length": 512}
    assert answer["models"][0]["prompt_cache"] == 6
    assert answer["models"][0]["prompt_cache_disk"] == 7
    (model,) = answer["models"]
    assert model["other_names"] == ["b:latest"]
    assert model["devices"] == [{"name": "H200", "id": "CUDA0", "kind": "cuda", "size": 10, "layers": 7}]


PLAN = LoadPlan(
    name="registry.ollama.ai/library/m:latest",
    loaded=False,
    fits=True,
    context_length=4096,
    parallel=8,
    cells=32_768,
    size=10,
    size_vram=10,
    embedding_size=1,
    layers=7,
    gpu_layers=7,
    cpu_experts=0,
    devices=(SHARE,),
    evicts=("other:latest",),
    prompt_cache=5,
    reloads="m2:latest",
    context_requested=9000,
    gpus=1,
)


async def test_plan(client: httpx.AsyncClient, engine: FakeEngine) -> None:
    engine.script = [PLAN]
    answer = (await client.post("/api/plan", json={"model": "m", "options": {"num_ctx": 9, "num_gpu": 3}})).json()
    (device,) = answer.pop("devices")
    assert device == {
        "name": "H200",
        "id": "CUDA0",
        "kind": "cuda",
        "size": 10,
        "layers": 7,
        "total": 90,
        "free": 80,
        "weights": 1,
        "cache": 2,
        "compute": 3,
        "other": 4,
        "prompt_cache": 5,
    }
    assert (answer["model"], answer["fits"], answer["evicts"]) == ("m:latest", True, ["other:latest"])
    assert (answer["refused"], answer["grows"], answer["reloads"]) == (False, False, "m2:latest")
    assert (answer["size"], answer["prompt_cache"], answer["gpus"]) == (10, 5, 1)
    assert (answer["context_length"], answer["context_requested"]) == (4096, 9000)
    (asked,) = engine.asked
    assert (asked.model, asked.options) == ("m", {"num_ctx": 9, "num_gpu": 3})


async def test_a_plan_for_nothing(client: httpx.AsyncClient, engine: FakeEngine) -> None:
    answer = await client.post("/api/plan", json={"model": " "})
    assert (answer.status_code, answer.json()) == (400, {"error": "model is required"})
    engine.script = [ModelNotFound("nope")]
    answer = await client.post("/api/plan", json={"model": "nope"})
    assert (answer.status_code, answer.json()["error"][:19]) == (404, "model 'nope' not fo")
    answer = await client.post("/api/plan", json={"model": "m", "options": []})
    assert answer.status_code == 400
