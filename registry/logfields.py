"""What every room needs to log: fields beside a message, the id of the request, the level TRACE.

`log.info("loaded", extra=fields(model=name, seconds=1.2))`: the message begins with constant words that can be searched
for, what varies is a field. `server.log` writes both as text or as JSON, and adds the id of the request.
"""

from __future__ import annotations

import logging
from contextvars import ContextVar
from typing import Any

TRACE = 5
"""The level below DEBUG, the only one that shows what users write."""
logging.addLevelName(TRACE, "TRACE")


def level_named(name: str) -> int:
    """The level of this name, ignoring case; WARNING for an unknown name."""
    return logging.getLevelNamesMapping().get(name.upper(), logging.WARNING)


REQUEST_ID: ContextVar[str] = ContextVar("request_id", default="")
"""The id of the HTTP request that this context works for, "" outside of one."""


ANSWERS: ContextVar[dict[str, Any] | None] = ContextVar("answers", default=None)
"""What the line of the HTTP request that this context works for tells of its answers; None outside of one."""


def tell_request(**values: Any) -> None:
    """Add fields of an answer to the line of its HTTP request. Tokens of several answers are added up."""
    told = ANSWERS.get()
    if told is not None:
        told |= values | {
            name: told.get(name, 0) + number for name, number in values.items() if name.endswith("tokens")
        }


def fields(**values: Any) -> dict[str, Any]:
    """The `extra` of a log call. Fields that are None are omitted; `request_id` overrides the current request's."""
    return {"fields": values}
