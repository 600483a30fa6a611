"""Engines on real stores, and what comes out of them.

To start one takes a second of CPU time, so tests that only ask share one per module.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from engine.api import Delta, Event, Final, GenerateRequest
from engine.engine import Engine, EngineConfig
from registry.storage.store import Store
from tests.serving import ENVIRON

ENDS = (2035, 2037, 2041)
"""All tokens that end an answer of tinychat's."""


def make_engine(root: Path, **settings: Any) -> Engine:
    """An engine on the models in this folder that has not started yet."""
    return Engine(Store(root), EngineConfig(**{"environ": ENVIRON | os.environ} | settings))


@asynccontextmanager
async def running(root: Path, **settings: Any) -> AsyncIterator[Engine]:
    """An engine on the models in this folder, stopped at the end."""
    engine = make_engine(root, **settings)
    await engine.start()
    try:
        yield engine
    finally:
        await engine.stop()


def endless(model: str = "tinychat") -> GenerateRequest:
    """A request to tinychat, whatever its name, for 900 tokens: too hot to end before or to go round in circles."""
    options = {
        "num_predict": 900,
        "temperature": 50.0,
        "top_k": 0,
        "top_p": 1.0,
        "logit_bias": {str(token): -1e4 for token in ENDS},
    }
    return GenerateRequest(model=model, prompt="Hi", raw=True, options=options)


async def unload_all(engine: Engine) -> None:
    """Unload every model, and wait until all have gone."""
    for model in engine.running():
        await engine.unload(model.name)
    await gone(engine)


async def gone(engine: Engine) -> None:
    """Wait until no model is loaded."""
    async with asyncio.timeout(60):
        while engine.running():  # noqa: ASYNC110 - what is waited for is another process's end
            await asyncio.sleep(0.01)


async def collect(events: AsyncIterator[Event]) -> tuple[str, str, Final]:
    """The content, the thinking and the end of an answer."""
    content = thinking = ""
    async for event in events:
        if isinstance(event, Delta):
            content += event.content
            thinking += event.thinking
    assert isinstance(event, Final)
    return content, thinking, event
