"""What generate and chat check themselves, and what they hand to the engine."""

import base64
import json

import httpx
import pytest

from engine.api import (
    ChatRequest,
    Delta,
    Final,
    GenerateRequest,
    Message,
    ModelLoading,
    Queued,
    Rendered,
    ToolCall,
)
from engine.errors import LoadFailed
from tests.server.fake_engine import FakeEngine


@pytest.mark.parametrize(
    ("path", "body", "status", "message"),
    [
        ("generate", {}, 404, "model '' not found"),
        ("chat", {}, 400, "model is required"),
        ("generate", {"model": "zz", "top_logprobs": 21}, 400, "top_logprobs must be between 0 and 20"),
        (
            "generate",
            {"model": "zz", "progress": "yes"},
            400,
            "json: cannot unmarshal string into Go struct field GenerateRequest.progress of type bool",
        ),
        ("chat", {"top_logprobs": -1}, 400, "top_logprobs must be between 0 and 20"),
        ("chat", {"model": "t", "messages": [{}] * 4097}, 400, "too many messages: 4097, at most 4096 are accepted"),
        ("chat", {"model": "t", "tools": [{}] * 4097}, 400, "too many tools: 4097, at most 4096 are accepted"),
        ("generate", {"model": "t", "images": ["QUI="] * 17}, 400, "too many images: 17, at most 16 are accepted"),
        (
            "chat",
            {"model": "t", "messages": [{"images": ["QUI="] * 9}, {"images": ["QUI="] * 8}]},
            400,
            "too many images: 17, at most 16 are accepted",
        ),
    ],
)
async def test_refusals(
    client: httpx.AsyncClient, engine: FakeEngine, path: str, body: object, status: int, message: str
) -> None:
    answer = await client.post(f"/api/{path}", json=body)
    assert (answer.status_code, answer.json()) == (status, {"error": message})
    assert not engine.asked


async def test_generate_request(client: httpx.AsyncClient, engine: FakeEngine) -> None:
    engine.script = [Final(done_reason="stop")]
    body = {
        "model": " T:latest",
        "prompt": "p",
        "suffix": "s",
        "system": "y",
        "template": "{{ . }}",
        "context": [1, 2],
        "raw": True,
        "images": [base64.b64encode(b"png").decode()],
        "options": {"num_ctx": 128, "stop": None, "temperature": 0.5},
        "keep_alive": "1m",
        "think": "low",
        "format": "json",
        "truncate": False,
        "shift": False,
        "logprobs": True,
        "top_logprobs": 2,
    }
    await client.post("/api/generate", json=body)
    assert engine.asked == [
        GenerateRequest(
            model=" T:latest",
            prompt="p",
            suffix="s",
            system="y",
            template="{{ . }}",
            context=[1, 2],
            raw=True,
            images=(b"png",),
            options={"num_ctx": 128, "stop": None, "temperature": 0.5},
            keep_alive=60.0,
            think="low",
            format='"json"',
            truncate=False,
            shift=False,
            logprobs=True,
            top_logprobs=2,
        )
    ]


async def test_defaults(client: httpx.AsyncClient, engine: FakeEngine) -> None:
    await client.post("/api/generate", json={"model": "t"})
    await client.post("/api/chat", json={"name": "t", "messages": None, "temperature": 1, "tool_choice": "auto"})
    assert engine.asked == [GenerateRequest(model="t"), ChatRequest(model="t")]


async def test_the_name_comes_back_as_it_was_sent(client: httpx.AsyncClient, engine: FakeEngine) -> None:
    engine.script = [Delta("x"), Final(done_reason="stop")]
    answer = await client.post("/api/chat", json={"model": "TinyChat", "messages": [{"content": "x"}], "stream": False})
    assert answer.json()["model"] == "TinyChat"
    assert engine.asked == [ChatRequest(model="TinyChat", messages=[Message(role="", content="x")])]


@pytest.mark.parametrize(("path", "asked"), [("generate", {"prompt": "x"}), ("chat", {"messages": [{"content": "x"}]})])
async def test_a_prompt_can_be_seen(client: httpx.AsyncClient, engine: FakeEngine, path: str, asked: object) -> None:
    engine.script = [Rendered("<x>")]
    answer = await client.post(f"/api/{path}", json={"model": "t", "_debug_render_only": True, **asked})  # type: ignore[dict-item]
    assert (answer.json()["done"], answer.json()["_debug_info"]) == (False, {"rendered_template": "<x>"})
    assert len(engine.asked) == 1


@pytest.mark.parametrize("path", ["generate", "chat"])
async def test_load_and_unload(client: httpx.AsyncClient, engine: FakeEngine, path: str) -> None:
    for keep_alive, reason in ((None, "load"), (60, "load"), (0, "unload"), ("0s", "unload")):
        answer = await client.post(f"/api/{path}", json={"model": "t", "keep_alive": keep_alive})
        assert (answer.json()["done"], answer.json()["done_reason"]) == (True, reason)
    assert [request.keep_alive for request in engine.asked] == [None, 60]
    assert engine.unloaded == ["t", "t"]


@pytest.mark.parametrize("path", ["generate", "chat"])
async def test_progress_is_asked_for_in_streams_alone(client: httpx.AsyncClient, engine: FakeEngine, path: str) -> None:
    engine.script = [Queued(2), Delta("x"), Final(done_reason="stop")]
    body = {"model": "t", "prompt": "x", "messages": [{"content": "x"}], "progress": True}
    answer = await client.post(f"/api/{path}", json=body)
    assert json.loads(answer.text.splitlines()[0])["progress"] == {"stage": "queued", "position": 2}
    engine.script = engine.script[1:]
    for fields in ({"stream": False}, {"progress": False}, {"progress": None}):
        await client.post(f"/api/{path}", json=body | fields)
    asked = [request for request in engine.asked if isinstance(request, GenerateRequest | ChatRequest)]
    assert [request.progress for request in asked] == [True, False, False, False]


@pytest.mark.parametrize("path", ["generate", "chat"])
async def test_a_load_with_progress_is_streamed(client: httpx.AsyncClient, engine: FakeEngine, path: str) -> None:
    engine.script = [Queued(1), ModelLoading(0.5)]
    answer = await client.post(f"/api/{path}", json={"model": "t", "progress": True})
    assert answer.headers["content-type"] == "application/x-ndjson"
    *told, notice = map(json.loads, answer.text.splitlines())
    assert [line["progress"]["stage"] for line in told] == ["queued", "loading"]
    assert (notice["done"], notice["done_reason"]) == (True, "load")
    engine.script = [LoadFailed("no")]
    answer = await client.post(f"/api/{path}", json={"model": "t", "progress": True})
    assert (answer.status_code, answer.json()) == (500, {"error": "no"})
    engine.script = [ModelLoading(0.5), LoadFailed("no")]
    answer = await client.post(f"/api/{path}", json={"model": "t", "progress": True})
    assert (answer.status_code, json.loads(answer.text.splitlines()[-1])) == (200, {"error": "no"})
    engine.script = []
    for fields in ({"stream": False}, {"keep_alive": 0}):
        answer = await client.post(f"/api/{path}", json={"model": "t", "progress": True, **fields})
        assert answer.json()["done"]


@pytest.mark.parametrize("path", ["generate", "chat"])
@pytest.mark.parametrize("stream", [True, False])
async def test_calls_are_a_stop_here(client: httpx.AsyncClient, engine: FakeEngine, path: str, stream: bool) -> None:
    engine.script = [Delta(tool_calls=(ToolCall("f", {}),)), Final(done_reason="tool_calls")]
    body = {"model": "t", "prompt": "x", "messages": [{"content": "x"}], "stream": stream}
    answer = await client.post(f"/api/{path}", json=body)
    assert json.loads(answer.text.splitlines()[-1])["done_reason"] == "stop"
