"""The server's log on standard error: one record a line, as text or JSON. Nobody waits until it is read.

Text is `time=… level=… message name=value …`, JSON one object with the same names. In text a value that is no plain
word is written as a Python literal, so no value can break a line. A traceback stands on lines of its own, or in
`exception`.
"""

from __future__ import annotations

import json
import logging
import os
import re
import select
import threading
from collections import deque
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, TextIO

from modelfile.text import cut
from registry.logfields import REQUEST_ID, TRACE
from server.settings import RUNNER_LOG

_LIBRARIES = ("uvicorn", "asyncio", "httpx", "httpcore")
MOST_TEXT = 4096  # characters of a text in a record
MOST_WAITING = 10_000  # records, while nobody reads what was written
FLUSH_TIMEOUT = 1.0  # seconds at the end of the process
_PLAIN = re.compile(r"[\w.:@+-]+", re.ASCII)


def configure(debug: int, log_format: str = "text") -> None:
    """Set up the log of this process.

    `debug` is OLLAMA_DEBUG: 0 for INFO, 1 for DEBUG, 2 for TRACE and the DEBUG of libraries. `log_format` is "text" or
    "json".
    """
    handler = PatientHandler()
    handler.addFilter(_add_request)
    handler.setFormatter(JSONFormatter() if log_format == "json" else TextFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level_of(debug))
    for name in _LIBRARIES:
        logging.getLogger(name).setLevel(logging.DEBUG if debug >= 2 else logging.WARNING)


def level_of(debug: int) -> int:
    """The log level for a value of OLLAMA_DEBUG."""
    return (logging.INFO, logging.DEBUG, TRACE)[min(debug, 2)]


def runner_level(environ: Mapping[str, str], debug: int) -> dict[str, str]:
    """PRONK_RUNNER_LOG for the models' processes: as set, else the server's level."""
    return {RUNNER_LOG: environ.get(RUNNER_LOG) or logging.getLevelName(level_of(debug)).lower()}


class PatientHandler(logging.StreamHandler[TextIO]):
    """Writes to standard error, and does not wait if that is a pipe that nobody reads, or a terminal that is stopped.

    While there is room, lines are written at once: the last ones before a crash are not lost. Others wait, in order,
    for a thread that writes them as soon as it can. Beyond MOST_WAITING records they are dropped, and a line tells how
    many.
    """

    def __init__(self) -> None:
        super().__init__()
        self._queue: deque[bytes] = deque()
        self._dropped = 0
        self._changing = threading.Lock()  # not the handler's own, which `logging.shutdown` holds while it flushes
        self._writer: threading.Thread | None = None
        try:
            self._fd: int | None = self.stream.fileno()
        except (OSError, ValueError):  # no file: a test's
            self._fd = None

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record, or let it wait, or drop it."""
        if self._fd is None:
            super().emit(record)
            return
        try:
            line = f"{self.format(record)}\n".encode(errors="backslashreplace")
        except Exception:  # noqa: BLE001 - as in logging itself: a record that cannot be written harms nobody
            self.handleError(record)
            return
        with self._changing:
            rest = line if self._writer is not None else self._write_what_fits(self._fd, line)
            if not rest:
                return
            if len(self._queue) >= MOST_WAITING:
                self._dropped += 1
                return
            self._queue.append(rest)
            if self._writer is None:
                self._writer = threading.Thread(target=self._write_queue, args=(self._fd,), name="log", daemon=True)
                self._writer.start()

    def flush(self) -> None:
        """Wait a moment for what waits."""
        if self._fd is None:
            super().flush()
        elif (writer := self._writer) is not None:
            writer.join(FLUSH_TIMEOUT)

    def _write_what_fits(self, fd: int, line: bytes) -> bytes:
        """Write as much of a line as there is room for; returns the rest."""
        poll = select.poll()
        poll.register(fd, select.POLLOUT)
        while line and any(event & ~select.POLLNVAL for _, event in poll.poll(0)):
            line = line[_write(fd, line[: select.PIPE_BUF]) :]  # so much never waits once there is room
        return line

    def _write_queue(self, fd: int) -> None:
        """Write all that waits, each line as soon as there is room for it."""
        while True:
            with self._changing:
                if not self._queue and self._dropped:
                    message = f"{self._dropped} log records dropped: standard error was not read"
                    record = logging.LogRecord("pronk.server", logging.WARNING, "", 0, message, None, None)
                    self._queue.append(f"{self.format(record)}\n".encode())
                    self._dropped = 0
                if not self._queue:
                    self._writer = None
                    return
                line = self._queue.popleft()
            while line:
                line = line[_write(fd, line) :]


def _write(fd: int, data: bytes) -> int:
    """How much of this was written; all of it counts if nobody can read it any more."""
    try:
        return os.write(fd, data)
    except OSError:
        return len(data)


def _add_request(record: logging.LogRecord) -> bool:
    """A log filter: adds the current request's id to records without `request_id`. Keeps every record."""
    values = getattr(record, "fields", {})
    if "request_id" not in values and (request_id := REQUEST_ID.get()):
        record.fields = {**values, "request_id": request_id}
    return True


class TextFormatter(logging.Formatter):
    """`time=2026-01-31T12:00:00.000Z level=INFO loaded model=tinychat:latest seconds=1.2`."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, and the traceback if there is one."""
        parts = [f"time={_time(record)}", f"level={record.levelname}", _printable(_shown(record.getMessage(), record))]
        parts += (f"{name}={_text(value)}" for name, value in _fields(record))
        line = " ".join(parts)
        return f"{line}\n{exception}" if (exception := _exception(self, record)) else line


class JSONFormatter(logging.Formatter):
    """One object a line: `time`, `level`, `logger`, `message` and the fields."""

    def format(self, record: logging.LogRecord) -> str:
        """The object, without a line feed."""
        values: dict[str, Any] = {
            "time": _time(record),
            "level": record.levelname,
            "logger": record.name,
            "message": _shown(record.getMessage(), record),
            **dict(_fields(record)),
        }
        if exception := _exception(self, record):
            values["exception"] = exception
        return json.dumps(values, default=str)


def _fields(record: logging.LogRecord) -> list[tuple[str, Any]]:
    return [(name, _shown(value, record)) for name, value in getattr(record, "fields", {}).items() if value is not None]


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _exception(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    if record.exc_info and not record.exc_text:
        record.exc_text = formatter.formatException(record.exc_info)
    return record.exc_text or ""


def _shown(value: Any, record: logging.LogRecord) -> Any:
    """Floats rounded, and texts cut: a client must not fill the log. TRACE shows all."""
    if isinstance(value, float):
        return round(value, 3)
    return cut(value, MOST_TEXT) if isinstance(value, str) and record.levelno > TRACE else value


def _text(value: Any) -> str:
    text = str(value)
    return text if _PLAIN.fullmatch(text) else repr(text)


def _printable(message: str) -> str:
    """The message with unprintable characters escaped, so it stays on one line."""
    if message.isprintable():
        return message
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in message)
