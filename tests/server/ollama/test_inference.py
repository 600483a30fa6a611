"""What generate and chat check themselves, and what they hand to the engine."""

import base64

import httpx
import pytest

from engine.api import ChatRequest, Delta, Final, GenerateRequest, Message
from tests.server.fake_engine import FakeEngine


@pytest.mark.parametrize(
    ("path", "body", "status", "message"),
    [
        ("generate", {}, 404, "model '' not found"),
        ("chat", {}, 400, "model is required"),
        ("generate", {"model": "zz", "top_logprobs": 21}, 400, "top_logprobs must be between 0 and 20"),
        ("chat", {"top_logprobs": -1}, 400, "top_logprobs must be between 0 and 20"),
        ("chat", {"model": "t", "messages": [{}] * 4097}, 400, "too many messages: 4097, at most 4096 are accepted"),
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
        "_debug_render_only": True,
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
            debug_render_only=True,
        )
    ]


async def test_defaults(client: httpx.AsyncClient, engine: FakeEngine) -> None:
    engine.script = [Final(done_reason="load")]
    await client.post("/api/generate", json={"model": "t"})
    await client.post("/api/chat", json={"name": "t", "messages": None, "temperature": 1, "tool_choice": "auto"})
    assert engine.asked == [GenerateRequest(model="t"), ChatRequest(model="t")]


async def test_the_name_comes_back_as_it_was_sent(client: httpx.AsyncClient, engine: FakeEngine) -> None:
    engine.script = [Delta("x"), Final(done_reason="stop")]
    answer = await client.post("/api/chat", json={"model": "TinyChat", "messages": [{"content": "x"}], "stream": False})
    assert answer.json()["model"] == "TinyChat"
    assert engine.asked == [ChatRequest(model="TinyChat", messages=[Message(role="", content="x")])]
