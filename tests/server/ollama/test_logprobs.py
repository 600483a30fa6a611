"""Log-probabilities as clients get them, from a real server with the bundled model."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest

from tests.serving import GREEDY, LOOPBACK, serving

SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
ANSWERS: dict[str, tuple[str, dict[str, Any]]] = {
    "thinking": ("generate", {"prompt": "Count to 5"}),
    "raw": ("generate", {"prompt": "The cat", "raw": True, "options": {"num_predict": 9}}),
    "seeded": ("generate", {"prompt": "Tell me a joke.", "options": {"temperature": 1, "repeat_penalty": 1.3}}),
    "stop": ("generate", {"prompt": "Count to 20", "options": {"stop": ["4, 5"]}}),
    "format": ("generate", {"prompt": "List 3 fruits as JSON", "format": SCHEMA, "think": False}),
    "chat": ("chat", {"messages": [{"role": "user", "content": "Hello!"}]}),
    "call": (
        "chat",
        {"messages": [{"role": "user", "content": "What is the weather in Paris?"}], "tools": [WEATHER]},
    ),
}


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving(tmp_path_factory.mktemp("logprobs") / "models") as server:
        yield server.url


@pytest.fixture
async def client(url: str) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=url, timeout=120, **LOOPBACK) as client:
        yield client


async def ask(client: httpx.AsyncClient, name: str, **fields: Any) -> list[dict[str, Any]]:
    """The lines of an answer."""
    path, body = ANSWERS[name]
    body = {"model": "tinychat", **body, **fields, "options": GREEDY | {"num_predict": 60} | body.get("options", {})}
    response = await client.post(f"/api/{path}", json=body)
    assert response.status_code == 200, response.text
    return [json.loads(line) for line in response.text.splitlines()]


def entries(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [entry for line in lines for entry in line.get("logprobs", [])]


def text(entries: list[dict[str, Any]]) -> str:
    return b"".join(bytes(entry.get("bytes", [])) for entry in entries).decode()


@pytest.mark.parametrize("name", ANSWERS)
async def test_a_stream_has_what_a_whole_answer_has(client: httpx.AsyncClient, name: str) -> None:
    (whole,) = await ask(client, name, stream=False, logprobs=True, top_logprobs=2)
    lines = await ask(client, name, logprobs=True, top_logprobs=2)
    assert [entry["token"] for entry in entries(lines)] == [entry["token"] for entry in whole["logprobs"]]
    for entry, other in zip(entries(lines), whole["logprobs"], strict=True):
        assert entry["logprob"] == pytest.approx(other["logprob"], abs=1e-3)
        assert entry.get("bytes") == other.get("bytes")
    assert len(whole["logprobs"]) <= whole["eval_count"]
    assert "logprobs" not in lines[-1]
    for entry in whole["logprobs"]:
        assert entry["logprob"] <= 0
        alternatives = [other["logprob"] for other in entry["top_logprobs"]]
        assert len(alternatives) == 2
        assert alternatives == sorted(alternatives, reverse=True)


async def test_every_token_counts_the_end_does_not(client: httpx.AsyncClient) -> None:
    (nine,) = await ask(client, "raw", stream=False, logprobs=True)
    assert len(nine["logprobs"]) == nine["eval_count"] == 9
    (whole,) = await ask(client, "thinking", stream=False, logprobs=True)
    assert len(whole["logprobs"]) == whole["eval_count"] - 1
    assert text(whole["logprobs"]) == "<think>\nI will count from 1 to 5.\n</think>\n\n1, 2, 3, 4, 5"
    assert "top_logprobs" not in whole["logprobs"][0]
    (stopped,) = await ask(client, "stop", stream=False, logprobs=True)
    assert text(stopped["logprobs"]).endswith("</think>\n\n" + stopped["response"])


async def test_text_and_entries_come_together(client: httpx.AsyncClient) -> None:
    lines = await ask(client, "thinking", logprobs=True)
    content = [line for line in lines if line.get("response")]
    assert [text(line["logprobs"]) for line in content] == [line["response"] for line in content]
    assert [text(line["logprobs"]) for line in lines[:2]] == ["<think>", "\n"]


async def test_who_does_not_ask_gets_none_beside_others(client: httpx.AsyncClient) -> None:
    names = [name for name in ANSWERS if name not in ("seeded", "call")]
    asking = [ask(client, name, logprobs=True, top_logprobs=20) for name in names]
    silent = [ask(client, name, top_logprobs=3) for name in names]
    answers = await asyncio.gather(*asking, *silent)
    for asked, plain in zip(answers[: len(names)], answers[len(names) :], strict=True):
        assert entries(asked)
        assert not entries(plain)
        for key in ("response", "thinking"):
            assert "".join(line.get(key, "") for line in asked) == "".join(line.get(key, "") for line in plain)
