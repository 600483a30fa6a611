"""What the tests of pull and push have in common."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any

from registry.names import ModelName
from registry.progress import Step
from registry.remote.download import Policy
from registry.remote.pull import Pulls
from registry.remote.retries import Retries
from registry.remote.transport import Network
from registry.storage.partials import Division
from registry.storage.store import Store
from tests.registry.servers.internet import NO_TLS

SMALL_PARTS = Division(count=4, smallest=1000, largest=100_000)


async def no_pause(_: float) -> None:
    """Instead of waiting between two tries."""


def policy(*, stall: float = 20.0, division: Division = SMALL_PARTS, **fields: Any) -> Policy:
    """Parts of a few bytes, tried again at once."""
    return Policy(
        network=Network(stall=stall, tls=NO_TLS), division=division, retries=Retries(sleep=no_pause), **fields
    )


def pulls(store: Store, *, keep_unused: bool = False, **fields: Any) -> Pulls:
    """Pulls into a store, with a key that is nobody's."""
    return Pulls(store, Path("/nonexistent"), policy(**fields), keep_unused=keep_unused)


async def until(condition: Callable[[], bool]) -> None:
    """Wait for something that servers or downloads do."""
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - there is nothing that could tell
            await asyncio.sleep(0.01)


async def collect(steps: AsyncGenerator[Step, None]) -> list[Step]:
    """All steps."""
    async with aclosing(steps):
        return [step async for step in steps]


async def pull(store: Store, text: str, **fields: Any) -> list[Step]:
    """Pull a model over http; its steps."""
    return await collect(pulls(store, **fields).pull(ModelName.parse(text), insecure=True))


def statuses(steps: list[Step]) -> list[str]:
    """The statuses in order, each once."""
    return list(dict.fromkeys(step["status"] for step in steps))
