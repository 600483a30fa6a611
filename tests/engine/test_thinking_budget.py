"""A budget ends the bundled model's reasoning, and the answer goes on behind it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from engine.api import ChatRequest, GenerateRequest, Message
from tests.engine.running import collect, running
from tests.serving import GREEDY

THOUGHT = "The user asks for the capital of France. It is Paris.\n"


def ask(**fields: Any) -> ChatRequest:
    messages = [Message("user", "What is the capital of France?")]
    return ChatRequest(model="tinychat", messages=messages, options=dict(GREEDY), **fields)


async def test_reasoning_ends_at_its_budget(tmp_path: Path) -> None:
    schema = json.dumps({"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]})
    async with running(tmp_path / "models") as engine:
        content, whole, _ = await collect(engine.chat(ask()))
        assert (content, whole) == ("The capital of France is Paris.", THOUGHT)
        assert await thought(engine, ask(thinking_budget=1000)) == whole
        for budget, start in ((0, ""), (2, "The\n"), (3, "The user\n"), (8, "The user asks for the capital of\n")):
            assert await thought(engine, ask(thinking_budget=budget)) == start  # a line feed is their first token
        content, thinking, _ = await collect(engine.chat(ask(thinking_budget=3, format=schema)))
        assert thinking == "The user\n"
        assert list(json.loads(content)) == ["a"]
        content, thinking, _ = await collect(engine.chat(ask(thinking_budget=3, think=False)))
        assert (content, thinking) == ("The capital of France is Paris.", "")
        prompt = GenerateRequest(model="tinychat", prompt="Count to 5", options=dict(GREEDY), thinking_budget=2)
        content, thinking, _ = await collect(engine.generate(prompt))
        assert thinking == "I\n"
        assert content


async def thought(engine: Any, request: ChatRequest) -> str:
    """The reasoning of an answer that has content too."""
    content, thinking, _ = await collect(engine.chat(request))
    assert content
    return str(thinking)
