"""Retries with exponential backoff, and for longer if a busy registry says when to come back."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from registry.errors import BadAnswer, BadStatus, RegistryError, Unreachable
from registry.logfields import fields
from registry.progress import Step

T = TypeVar("T")
log = logging.getLogger("pronk.registry")

_TEMPORARY: Final = frozenset({408, 425, 429})
_BUSY: Final = frozenset({429, 502, 503, 504})
TICK: Final = 0.06
"""Seconds between two progress reports."""


class RetriesExceeded(RegistryError):
    """Every attempt failed; the text has the last failure."""

    def __init__(self, last: RegistryError) -> None:
        later = last.retry_after if isinstance(last, BadStatus) else None
        hint = f" (it asks to be left alone for {later:.0f} seconds)" if later else ""
        super().__init__(f"max retries exceeded: {last}{hint}")


@dataclass(slots=True)
class Waiting:
    """What an operation waits for, for the user; `count` grows with each wait."""

    status: str = ""
    count: int = 0

    def begin(self, status: str) -> None:
        """Begin a wait."""
        self.status = status
        self.count += 1


@dataclass(frozen=True, slots=True)
class Retries:
    """`tries` failures in a row are the limit; pauses are `pause` seconds, doubled up to `longest`.

    A busy registry (429, 5xx) is retried for `patience` seconds in all, and after its `Retry-After` if it names one.
    """

    tries: int = 6
    pause: float = 1.0
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    longest: float = 60.0
    patience: float = 900.0

    async def run(
        self,
        operation: Callable[[], Awaitable[T]],
        waiting: Waiting | None = None,
        should_retry: Callable[[RegistryError], bool] = lambda _: True,
    ) -> T:
        """Run until it succeeds. Raises errors that are not temporary or not `should_retry`, or RetriesExceeded."""
        attempts = Attempts(self, waiting)
        while True:
            try:
                return await operation()
            except RegistryError as error:
                if not should_retry(error):
                    raise
                await attempts.failed(error)


class Attempts:
    """Consecutive attempts at one operation."""

    def __init__(self, retries: Retries, waiting: Waiting | None = None) -> None:
        self._retries = retries
        self._waiting = waiting
        self._failures = 0
        self._waited = 0.0

    def succeeded(self) -> None:
        """Reset: there was progress, so the next failure counts as the first."""
        self._failures = 0
        self._waited = 0.0

    async def failed(self, error: RegistryError) -> None:
        """Wait before the next attempt. Raises the error if it is not temporary, or RetriesExceeded."""
        if not is_temporary(error):
            raise error
        self._failures += 1
        pause = self._pause(error)
        if pause is None:
            raise RetriesExceeded(error) from error
        self._waited += pause
        log.debug("retrying", extra=fields(failures=self._failures, pause_seconds=pause, error=str(error)))
        if self._waiting is not None and isinstance(error, BadStatus):
            self._waiting.begin(f"registry is busy ({error.status}), trying again in {pause:.0f}s")
        await self._retries.sleep(pause)

    def _pause(self, error: RegistryError) -> float | None:
        """Seconds to the next attempt; None if there is none."""
        retries = self._retries
        pause = min(retries.pause * 2.0 ** min(self._failures - 1, 30), retries.longest)
        if isinstance(error, BadStatus) and (error.status in _BUSY or error.retry_after is not None):
            pause = max(pause, error.retry_after or 0.0)
            return pause if self._waited + pause <= retries.patience else None
        return pause if self._failures < retries.tries else None


class WatchedOperation(Generic[T]):
    """An operation whose waits become steps. `result` is set once `steps` has ended."""

    result: T

    def __init__(self, operation: Coroutine[Any, Any, T], waiting: Waiting) -> None:
        self._operation = operation
        self._waiting = waiting

    async def steps(self) -> AsyncGenerator[Step, None]:
        """Run the operation; yields a step for each wait. Raises what it raises; closed early, it is cancelled."""
        task = asyncio.ensure_future(self._operation)
        shown_waits = self._waiting.count
        try:
            while not task.done():
                await asyncio.wait((task,), timeout=TICK)
                if self._waiting.count != shown_waits:
                    shown_waits = self._waiting.count
                    yield {"status": self._waiting.status}
        finally:
            task.cancel()
            await asyncio.wait((task,))
        self.result = task.result()


def is_temporary(error: RegistryError) -> bool:
    """Whether the same request may succeed later."""
    if isinstance(error, BadStatus):
        return error.status >= 500 or error.status in _TEMPORARY
    return isinstance(error, Unreachable | BadAnswer)
