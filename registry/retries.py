"""When something that failed is tried again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, TypeVar

from registry.errors import BadAnswer, BadStatus, RegistryError, Unreachable

T = TypeVar("T")

_TEMPORARY: Final = frozenset({408, 425, 429})


class RetriesExceeded(RegistryError):
    """It failed again and again; the text has the last failure."""

    def __init__(self, last: RegistryError) -> None:
        super().__init__(f"max retries exceeded: {last}")


@dataclass(frozen=True, slots=True)
class Retries:
    """How often in a row something may fail, and how many seconds pass: `pause`, then twice that, and so on."""

    tries: int = 6
    pause: float = 1.0
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep

    async def run(self, work: Callable[[], Awaitable[T]]) -> T:
        """Do something until it succeeds. Raises what makes another try useless, or RetriesExceeded."""
        failures = 0
        while True:
            try:
                return await work()
            except RegistryError as error:
                failures += 1
                await self.after(failures, error)

    async def after(self, failures: int, error: RegistryError) -> None:
        """Wait before the next try, or raise what makes another one useless."""
        if not is_temporary(error):
            raise error
        if failures >= self.tries:
            raise RetriesExceeded(error) from error
        await self.sleep(self.pause * 2 ** (failures - 1))


def is_temporary(error: RegistryError) -> bool:
    """Whether the same request may succeed a little later."""
    if isinstance(error, BadStatus):
        return error.status >= 500 or error.status in _TEMPORARY
    return isinstance(error, Unreachable | BadAnswer)
