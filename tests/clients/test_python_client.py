"""The official Python client: what its users do, streaming and not."""

import asyncio
from collections.abc import Iterator

import ollama
import pytest

from tests.serving import GREEDY, Served

CAPITAL = [{"role": "user", "content": "What is the capital of Spain?"}]
ANSWER = "The capital of Spain is Madrid."
THOUGHT = "The user asks for the capital of Spain. It is Madrid.\n"
STREAMED = [
    "Count to 30",
    "Tell me a story about a fox named Luna.",
    "Why is the sky blue?",
    "What is the capital of Japan?",
    "List 4 fruits",
    "Count to 60",
    "Who are you?",
    "天空为什么是蓝色的？",
]


@pytest.fixture
def client(server: Served) -> Iterator[ollama.Client]:
    with ollama.Client(host=server.url, trust_env=False) as client:
        yield client


def test_chat(client: ollama.Client) -> None:
    answer = client.chat("tinychat", CAPITAL, options=GREEDY)
    assert (answer.message.role, answer.message.content, answer.message.thinking) == ("assistant", ANSWER, THOUGHT)
    assert answer.done
    assert answer.done_reason == "stop"
    assert answer.eval_count
    assert answer.total_duration


def test_chat_streaming(client: ollama.Client) -> None:
    parts = list(client.chat("tinychat", CAPITAL, stream=True, options=GREEDY))
    assert "".join(part.message.content or "" for part in parts) == ANSWER
    assert "".join(part.message.thinking or "" for part in parts) == THOUGHT
    assert [part.done for part in parts] == [False] * (len(parts) - 1) + [True]
    assert len(parts) > 2  # what piles up comes in one line, but thought, answer and end never do


def test_chat_without_thinking(client: ollama.Client) -> None:
    answer = client.chat("tinychat", CAPITAL, think=False, options=GREEDY)
    assert (answer.message.content, answer.message.thinking) == (ANSWER, None)


def test_generate(client: ollama.Client) -> None:
    answer = client.generate("tinychat", "Count to 5", options=GREEDY)
    assert answer.response == "1, 2, 3, 4, 5"
    assert answer.thinking == "I will count from 1 to 5.\n"
    assert answer.context


def test_generate_streaming(client: ollama.Client) -> None:
    parts = list(client.generate("tinychat", "Count to 5", stream=True, options=GREEDY))
    assert "".join(part.response for part in parts) == "1, 2, 3, 4, 5"


def test_a_hole_is_filled(client: ollama.Client) -> None:
    answer = client.generate("tinychat", "def add(a, b):\n    return ", suffix="\n", options=GREEDY)
    assert answer.response == "a + b"


def test_list_show_and_ps(client: ollama.Client) -> None:
    client.generate("tinychat")
    assert [model.model for model in client.list().models] == ["tinychat:latest"]
    assert [model.model for model in client.ps().models] == ["tinychat:latest"]
    shown = client.show("tinychat")
    assert sorted(shown.capabilities or []) == ["completion", "insert", "thinking", "tools"]
    assert shown.details is not None
    assert shown.details.family == "qwen3"


def test_unload(client: ollama.Client) -> None:
    client.generate("tinychat", keep_alive=0)
    while client.ps().models:
        pass
    client.generate("tinychat", keep_alive="1m")
    assert client.ps().models


def test_a_model_that_is_not_there(client: ollama.Client) -> None:
    with pytest.raises(ollama.ResponseError, match="model 'nosuch' not found") as caught:
        client.chat("nosuch", CAPITAL)
    assert caught.value.status_code == 404


async def test_eight_at_once_get_what_each_gets_alone(server: Served) -> None:
    client = ollama.AsyncClient(host=server.url, trust_env=False)

    async def ask(prompt: str) -> str:
        text = ""
        async for part in await client.generate("tinychat", prompt, stream=True, options=GREEDY):
            text += part.response
        return text

    async with client:
        alone = [await ask(prompt) for prompt in STREAMED]
        for _ in range(3):
            assert await asyncio.gather(*map(ask, STREAMED)) == alone
