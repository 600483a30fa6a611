"""What the embedding endpoints check themselves, what they hand to the engine, and how they write vectors."""

import asyncio
from array import array
from typing import Any

import httpx
import pytest

from engine.api import Embeddings, EmbedRequest
from engine.errors import ContextExceeded, LoadFailed, RunnerDied
from server.ollama.embed import MAX_TEXTS
from tests.server.conftest import Live
from tests.server.fake_engine import FakeEngine

FOUND = Embeddings(
    vectors=[array("f", [0.1, -1.5e-9, 0.0]), array("f", [1.0, 0.25, -2.0])], prompt_eval_count=7, load_duration=5
)


@pytest.mark.parametrize(
    ("path", "body", "status", "message"),
    [
        ("embed", {}, 404, "model '' not found"),
        ("embed", {"model": "foo:"}, 400, "invalid model name"),
        ("embed", {"model": "foo:", "input": [1]}, 400, "invalid model name"),
        ("embed", {"model": "zz", "input": [1]}, 400, "invalid input type"),
        ("embed", {"model": "zz", "input": ["a", None]}, 400, "invalid input type"),
        ("embed", {"model": "zz", "input": 5}, 400, "invalid input type"),
        ("embed", {"model": "zz", "input": False}, 400, "invalid input type"),
        ("embed", {"model": "zz", "input": {}}, 400, "invalid input type"),
        (
            "embed",
            {"model": "zz", "input": ["a"] * (MAX_TEXTS + 1)},
            400,
            f"too many texts: {MAX_TEXTS + 1}, at most {MAX_TEXTS} are accepted",
        ),
        (
            "embed",
            {"model": "zz", "keep_alive": "5"},
            400,
            'time: missing unit in duration "5"',
        ),
        ("embeddings", {}, 400, "model is required"),
        ("embeddings", {"model": "foo:"}, 400, "invalid model name"),
        ("embeddings", {"model": "zz"}, 404, 'model "zz" not found, try pulling it first'),
        ("embeddings", {"model": "TinyChat"}, 404, 'model "TinyChat" not found, try pulling it first'),
        ("embeddings", {"model": "tinychat", "prompt": 5}, 400, None),
    ],
)
async def test_refusals(
    client: httpx.AsyncClient, engine: FakeEngine, path: str, body: object, status: int, message: str | None
) -> None:
    answer = await client.post(f"/api/{path}", json=body)
    assert answer.status_code == status
    assert message is None or answer.json() == {"error": message}
    assert not engine.asked


async def test_an_embed_request(client: httpx.AsyncClient, engine: FakeEngine) -> None:
    engine.script = [FOUND]
    body = {
        "model": " T:latest",
        "input": ["a", ""],
        "truncate": False,
        "dimensions": 2,
        "options": {"num_ctx": 128, "mirostat": None},
        "keep_alive": -1,
    }
    await client.post("/api/embed", json=body)
    assert engine.asked == [
        EmbedRequest(
            model=" T:latest",
            texts=["a", ""],
            truncate=False,
            dimensions=2,
            options={"num_ctx": 128, "mirostat": None},
            keep_alive=float("inf"),
        )
    ]


@pytest.mark.parametrize(
    ("input", "texts"), [("a", ["a"]), ([""], [""]), ("", []), ([], []), (None, []), (["b", "", "a"], ["b", "", "a"])]
)
async def test_texts(client: httpx.AsyncClient, engine: FakeEngine, input: Any, texts: list[str]) -> None:
    engine.script = [Embeddings()]
    answer = await client.post("/api/embed", json={"model": "t", "input": input})
    assert engine.asked == [EmbedRequest(model="t", texts=texts)]
    assert answer.text == '{"model":"t","embeddings":[]}'


async def test_vectors_and_numbers(client: httpx.AsyncClient, engine: FakeEngine) -> None:
    engine.script = [FOUND]
    answer = await client.post("/api/embed", json={"model": "T", "input": ["a", "b"]})
    assert answer.headers["content-type"] == "application/json; charset=utf-8"
    found = answer.json()
    assert list(found) == ["model", "embeddings", "total_duration", "load_duration", "prompt_eval_count"]
    assert [array("f", vector) for vector in found["embeddings"]] == FOUND.vectors
    assert found["total_duration"] > 0
    assert (found["model"], found["load_duration"], found["prompt_eval_count"]) == ("T", 5, 7)


async def test_a_legacy_request(client: httpx.AsyncClient, engine: FakeEngine) -> None:
    engine.script = [FOUND]
    body = {"model": "tinychat", "prompt": "a", "options": {"num_ctx": 9}, "keep_alive": "1m"}
    answer = await client.post("/api/embeddings", json=body)
    assert engine.asked == [
        EmbedRequest(
            model="tinychat", texts=["a"], truncate=False, normalize=False, options={"num_ctx": 9}, keep_alive=60.0
        )
    ]
    assert answer.json() == {"embedding": FOUND.vectors[0].tolist()}
    engine.script = [Embeddings()]
    answer = await client.post("/api/embeddings", json={"model": "tinychat"})
    assert answer.text == '{"embedding":[]}'


@pytest.mark.parametrize(
    ("error", "status", "legacy_status"),
    [(ContextExceeded("too long"), 400, 500), (LoadFailed("no"), 500, 500), (RunnerDied(), 500, 500)],
    ids=lambda value: type(value).__name__,
)
async def test_failures(
    client: httpx.AsyncClient, engine: FakeEngine, error: Exception, status: int, legacy_status: int
) -> None:
    engine.script = [error]
    answer = await client.post("/api/embed", json={"model": "tinychat", "input": "a"})
    assert (answer.status_code, answer.json()) == (status, {"error": str(error)})
    answer = await client.post("/api/embeddings", json={"model": "tinychat", "prompt": "a"})
    assert (answer.status_code, answer.json()) == (legacy_status, {"error": str(error)})


@pytest.mark.parametrize(("path", "field"), [("embed", "input"), ("embeddings", "prompt")])
async def test_a_client_that_leaves_takes_its_work_along(live: Live, engine: FakeEngine, path: str, field: str) -> None:
    engine.script = [3600.0, FOUND]
    with pytest.raises(httpx.ReadTimeout):
        async with httpx.AsyncClient(trust_env=False, timeout=0.3) as client:
            await client.post(f"{live.url}/api/{path}", json={"model": "tinychat", field: "a"})
    async with asyncio.timeout(10):
        while not engine.abandoned:  # noqa: ASYNC110 - nobody says when the server has noticed
            await asyncio.sleep(0.01)
