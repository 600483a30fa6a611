"""Bodies of any size, type and dialect."""

import json

import httpx
import pytest

from engine.api import Final
from server.settings import Settings
from tests.server.fake_engine import FakeEngine

NATIVE = ["generate", "chat", "embed", "embeddings", "show", "pull", "push", "create", "copy"]
OPENAI = ["chat/completions", "completions", "embeddings", "responses"]


@pytest.mark.parametrize("name", NATIVE)
async def test_empty_body_native(client: httpx.AsyncClient, name: str) -> None:
    answer = await client.post(f"/api/{name}", content=b" \n")
    assert (answer.status_code, answer.json()) == (400, {"error": "missing request body"})
    assert answer.headers["content-type"] == "application/json; charset=utf-8"


@pytest.mark.parametrize("name", OPENAI)
async def test_empty_body_openai(client: httpx.AsyncClient, name: str) -> None:
    answer = await client.post(f"/v1/{name}")
    error = {"message": "EOF", "type": "invalid_request_error", "param": None, "code": None}
    assert (answer.status_code, answer.json()) == (400, {"error": error})


async def test_broken_body_anthropic(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/messages", content=b"hello")
    body = answer.json()
    assert answer.status_code == 400
    assert body.pop("request_id") == "req_" + answer.headers["x-request-id"]
    message = "invalid character 'h' looking for beginning of value"
    assert body == {"type": "error", "error": {"type": "invalid_request_error", "message": message}}


@pytest.mark.parametrize("content_type", ["application/x-www-form-urlencoded", "text/plain", "", None])
async def test_content_type_is_ignored(client: httpx.AsyncClient, engine: FakeEngine, content_type: str | None) -> None:
    headers = {} if content_type is None else {"Content-Type": content_type}
    answer = await client.post("/api/generate", content=b'{"model":"t"} trailing', headers=headers)
    assert answer.status_code == 200


async def test_a_body_over_the_limit(client: httpx.AsyncClient, settings: Settings, engine: FakeEngine) -> None:
    body = json.dumps({"model": "t", "prompt": "x" * settings.max_body}).encode()
    answer = await client.post("/api/generate", content=body)
    assert answer.status_code == 413
    assert answer.json() == {"error": "request body too large: at most 100000 bytes are accepted"}

    async def pieces():  # type: ignore[no-untyped-def]
        for at in range(0, len(body), 1000):
            yield body[at : at + 1000]

    answer = await client.post("/api/generate", content=pieces())
    assert answer.status_code == 413
    assert not engine.asked


async def test_a_large_body_under_the_limit(engine: FakeEngine, settings: Settings) -> None:
    from server.app import create_app

    roomy = Settings(models=settings.models)
    transport = httpx.ASGITransport(app=create_app(roomy, engine, engine.models))
    engine.script = [Final(done_reason="stop")]
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        body = json.dumps({"model": "t", "prompt": "é" * 3_000_000, "stream": False}).encode()
        assert (await client.post("/api/generate", content=body)).status_code == 200
    (request,) = engine.asked
    assert len(request.prompt) == 3_000_000  # type: ignore[union-attr]


async def test_depth(client: httpx.AsyncClient) -> None:
    body = b'{"model":"t","options":' + b'{"a":' * 100_000 + b"1" + b"}" * 100_000 + b"}"
    for sent in (body[:90_000], b'{"format":' + b"[" * 80 + b"]" * 80 + b"}"):
        answer = await client.post("/api/generate", content=sent)
        assert (answer.status_code, answer.json()) == (400, {"error": "exceeded max depth"})


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"model": 5}, "model"),
        ({"MODEL": 5}, "model"),
        ({"messages": "hi"}, "messages"),
        ({"messages": [], "model": []}, "model"),
        ([], None),
    ],
)
async def test_openai_errors_name_the_field(client: httpx.AsyncClient, body: object, param: str | None) -> None:
    answer = await client.post("/v1/chat/completions", json=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param
    assert answer.json()["error"]["message"].startswith("json: cannot unmarshal")
