"""The paths of llama.cpp's server, where the loaded model is meant if none is named."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from engine.api import ChatRequest, Detokenized, Rendered, RunningModel, Tokenized
from tests.server.fake_engine import FakeEngine

BODIES: dict[str, dict[str, Any]] = {
    "tokenize": {"content": "a"},
    "detokenize": {"tokens": [1]},
    "apply-template": {"messages": [{"role": "user", "content": "Hi"}]},
}


def loaded(*names: str) -> list[RunningModel]:
    return [RunningModel(f"registry.ollama.ai/library/{name}:latest", "0" * 64, 1, 1, 1, 0.0) for name in names]


@pytest.mark.parametrize("path", BODIES)
async def test_the_loaded_model_is_meant(client: httpx.AsyncClient, engine: FakeEngine, path: str) -> None:
    engine.script = [Tokenized(tokens=[7]), Detokenized(text="x"), Rendered("p", 0, 3)]
    engine.loaded = loaded("one")
    answer = await client.post(f"/{path}", json=BODIES[path])
    assert answer.status_code == 200
    assert answer.json()["model"] == engine.asked[0].model == "one:latest"
    await client.post(f"/{path}", json=BODIES[path] | {"model": "other"})
    assert engine.asked[1].model == "other"


@pytest.mark.parametrize(("names", "count"), [((), "no"), (("one", "two"), "2")])
async def test_without_a_name_there_must_be_just_one(
    client: httpx.AsyncClient, engine: FakeEngine, names: tuple[str, ...], count: str
) -> None:
    engine.loaded = loaded(*names)
    for path, body in BODIES.items():
        answer = await client.post(f"/{path}", json=body)
        assert (answer.status_code, answer.json()) == (400, {"error": f"model is required: {count} models are loaded"})
    assert not engine.asked


async def test_messages_are_as_openais_clients_send_them(client: httpx.AsyncClient, engine: FakeEngine) -> None:
    engine.script = [Rendered("p", 0, 3), Tokenized(tokens=[7])]
    called = {"id": "c", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
    messages = [
        {"role": "user", "content": [{"type": "text", "text": "Hi"}]},
        {"role": "assistant", "tool_calls": [called]},
        {"role": "tool", "tool_call_id": "c", "content": "2"},
    ]
    for path in ("apply-template", "tokenize"):
        answer = await client.post(f"/{path}", json={"model": "m", "messages": messages})
        assert answer.status_code == 200, answer.text
    for asked in engine.asked[:2]:
        assert isinstance(asked, ChatRequest)
        assert asked.model == "m"
        assert not asked.truncate
        assert [message.content for message in asked.messages] == ["Hi", "", "2"]
        assert asked.messages[1].tool_calls[0].arguments == {"a": 1}


@pytest.mark.parametrize("path", ["tokenize", "apply-template"])
async def test_refusals(client: httpx.AsyncClient, engine: FakeEngine, path: str) -> None:
    answer = await client.post(f"/{path}", json={"model": "m"})
    missing = "content" if path == "tokenize" else "messages"
    assert (answer.status_code, answer.json()) == (400, {"error": f"{missing} is required"})
    assert not engine.asked
