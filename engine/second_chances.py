"""Requests that begin anew, before their client has been told anything."""

from __future__ import annotations

import logging

from engine.errors import ModelReplaced, RunnerDied
from registry.logfields import fields

MOST_REPLACED = 3  # times that a request's model may be replaced while it waits
MOST_KILLED = 1  # processes of a request that something else may kill: a second one looks like its own work
log = logging.getLogger("pronk.engine")


class SecondChances:
    """Those that are left to one request."""

    def __init__(self) -> None:
        self._replaced, self._killed = MOST_REPLACED, MOST_KILLED

    def take(self, error: ModelReplaced | RunnerDied) -> None:
        """Let the request begin anew after this error, or raise it.

        A name is resolved again, and leads to the model that it has now, or to none. A process that crashed or hung may
        have done so because of the request.
        """
        if isinstance(error, ModelReplaced):
            self._replaced -= 1
            left = self._replaced
        else:
            self._killed -= 1
            left = self._killed if error.killed else -1
        if left < 0:
            raise error
        log.warning("request begins anew", extra=fields(reason=str(error)))
