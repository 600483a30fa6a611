"""Requests that begin anew, before their client has been told anything."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from engine.errors import EngineError, ModelReplaced, RunnerDied
from registry.logfields import fields

MOST_REPLACED = 3  # times that a request's model may be replaced while it waits
MOST_KILLED = 1  # processes of a request that something else may kill: a second one looks like its own work
log = logging.getLogger("pronk.engine")


class SecondChances:
    """Those that are left to one request; none once it is `settled`, or while the engine is `stopping`.

    A name is resolved again, and leads to the model that it has now, or to none. A process that crashed or hung may
    have done so because of the request.
    """

    def __init__(self, stopping: Callable[[], bool]) -> None:
        self.settled = False
        self._stopping = stopping
        self._replaced, self._killed = MOST_REPLACED, MOST_KILLED

    def allow(self, error: EngineError) -> bool:
        """Whether the request may begin anew after this error."""
        if self.settled or self._stopping():
            return False
        if isinstance(error, ModelReplaced):
            return self._replaced > 0
        return isinstance(error, RunnerDied) and error.killed and self._killed > 0

    @contextmanager
    def taking(self) -> Iterator[None]:
        """Around an attempt, which must return: behind the context it is to begin anew. Raises its other errors."""
        try:
            yield
        except (ModelReplaced, RunnerDied) as error:
            if not self.allow(error):
                raise
            if isinstance(error, ModelReplaced):
                self._replaced -= 1
            else:
                self._killed -= 1
            log.warning("request begins anew", extra=fields(reason=str(error)))
