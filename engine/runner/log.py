"""The child's log: records travel to the server as messages, which writes them among its own, one line each."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from engine.messages import FromRunner, LogLine
from registry.logfields import fields

log = logging.getLogger("pronk.runner")

MAX_WAITING = 10_000  # records; what is logged beyond them while the server does not read is lost


class ForwardingHandler(logging.Handler):
    """Sends records with `send`, on a thread of its own, so that whoever logs never waits for the server."""

    def __init__(self, send: Callable[[list[FromRunner]], None]) -> None:
        super().__init__()
        self._send = send
        self._lines: deque[FromRunner] = deque(maxlen=MAX_WAITING)
        self._ready = threading.Event()
        self._sending = threading.Lock()
        threading.Thread(target=self._forward, name="log", daemon=True).start()

    def emit(self, record: logging.LogRecord) -> None:
        """Queue a record. Safe from any thread, those of llama.cpp too."""
        self._lines.append(line_of(record))
        self._ready.set()

    def flush(self) -> None:
        """Send what is queued; returns when it is sent. For the last words of a process."""
        with self._sending:
            lines = []
            while self._lines:
                lines.append(self._lines.popleft())
            if lines:
                self._send(lines)

    def _forward(self) -> None:
        while self._ready.wait():
            self._ready.clear()
            self.flush()


def line_of(record: logging.LogRecord) -> LogLine:
    """A record as a message."""
    exception = _text(logging.Formatter().formatException(record.exc_info)) if record.exc_info else ""
    values = {name: _plain(value) for name, value in getattr(record, "fields", {}).items() if value is not None}
    return LogLine(record.levelno, record.name, _text(record.getMessage()), record.created, values, exception)


def _plain(value: object) -> str | int | float | bool:
    return value if isinstance(value, int | float) else _text(str(value))


def _text(text: str) -> str:
    """A text that can be encoded, whatever its source."""
    return text.encode("utf-8", "replace").decode()


def log_event(trace_id: str, message: str, /, **values: Any) -> None:
    """A DEBUG line of a request: `trace_id` is its id in the log."""
    if log.isEnabledFor(logging.DEBUG):
        log.debug(message, extra=fields(**values, request_id=trace_id or None))


def forward(send: Callable[[list[FromRunner]], None]) -> ForwardingHandler:
    """Send all that this process logs from now on. Its level stays as it is."""
    handler = ForwardingHandler(send)
    logging.getLogger().handlers[:] = [handler]
    return handler
