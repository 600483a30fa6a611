"""Constraints of many clients' requests: known ones wait for nobody."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine import constraints as module
from engine.api import ChatRequest, Message, Tool
from engine.chat.output import NAMED
from engine.constraints import WAITING, Constraints
from engine.errors import InvalidRequest, ServerBusy
from engine.fair_queue import CLIENT
from tests.engine.running import collect, running

FORMAT = NAMED["qwen3"]
KNOWN = json.dumps({"type": "object", "properties": {"a": {"type": "integer"}}})


def large(number: int, ways: int = 400) -> str:
    return json.dumps({"anyOf": [{"type": "object", "properties": {f"p{number}_{n}": {}}} for n in range(ways)]})


@pytest.fixture
def constraints() -> Iterator[Constraints]:
    constraints = Constraints()
    yield constraints
    constraints.close()


async def test_what_is_known_does_not_wait(constraints: Constraints) -> None:
    known = await constraints.content(KNOWN, FORMAT)
    burst = [asyncio.create_task(constraints.content(large(n), FORMAT)) for n in range(30)]
    await asyncio.sleep(0)
    assert await constraints.content(KNOWN, FORMAT) is known
    assert not any(task.done() for task in burst)
    compiled = await asyncio.gather(*burst)
    assert len({made.rules for made in compiled if made is not None}) == 30


async def test_nobody_waits_for_all_that_one_client_sends(constraints: Constraints) -> None:
    done: list[str] = []

    async def ask(client: str, number: int) -> None:
        CLIENT.set(client)
        await constraints.content(large(number, 50), FORMAT)
        done.append(client)

    await asyncio.gather(*(ask("a", n) for n in range(30)), ask("b", 30))
    assert done.index("b") < 8


async def test_each_format_and_each_choice_has_its_own(constraints: Constraints) -> None:
    tools = (Tool("f"), Tool("g"))
    asked = [(ChatRequest(model="m", format=KNOWN), tools)]
    asked += [(ChatRequest(model="m", tool_choice="required"), tools), (ChatRequest(model="m", format='"json"'), tools)]
    required = ChatRequest(model="m", tool_choice="required")
    asked += [(required, (Tool("f", sent={"required": [name]}), Tool("g"))) for name in "xy"]
    made = [await constraints.chat(*each, format) for each in asked for format in (FORMAT, NAMED["harmony"])]
    assert len({(each.rules, each.answer_format) for each in made if each is not None}) == 10
    assert made == [await constraints.chat(*each, format) for each in asked for format in (FORMAT, NAMED["harmony"])]
    assert await constraints.chat(ChatRequest(model="m"), tools, FORMAT) is None


async def test_what_is_refused_is_refused_again(constraints: Constraints) -> None:
    for _ in range(2):
        with pytest.raises(InvalidRequest, match=r"^invalid format: Invalid type: x$"):
            await constraints.content('{"type": "x"}', FORMAT)


async def test_the_oldest_is_forgotten(constraints: Constraints, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CACHE_SIZE", 20_000)
    first = await constraints.content(KNOWN, FORMAT)
    for number in range(20):
        await constraints.content(large(number, 20), FORMAT)
        assert await constraints.content(KNOWN, FORMAT) is first, "it is asked for all the time"
    assert len(constraints._cache) < 20
    assert 0 < constraints._size <= 20_000


async def test_a_line_that_is_too_long_is_refused(constraints: Constraints) -> None:
    checks = [constraints.content(large(n, 1), FORMAT) for n in range(WAITING)]
    outcomes = await asyncio.gather(*checks, return_exceptions=True)
    assert sum(isinstance(outcome, ServerBusy) for outcome in outcomes) == WAITING // 2 - 2


async def test_a_models_format_is_known_by_the_next_request(tmp_path: Path) -> None:
    async with running(tmp_path / "models") as engine:
        for n in range(2):
            request = ChatRequest(model="tinychat", format=KNOWN, options={"num_predict": 5, "seed": n})
            request.messages.append(Message(role="user", content="Hi"))
            await collect(engine.chat(request))
        assert len(engine._constraints._cache) == 1
