"""OLLAMA_DEBUG_LOG_REQUESTS: the bodies of requests as files, each with a curl script that sends it again.

The folder and the names of the files are Ollama's. API keys and cookies are never written: of the headers, only what
says how to read the body.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import tempfile
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from contextvars import Context, copy_context
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from shlex import quote

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from registry.logfields import fields

CAPTURED = frozenset(
    {"/api/generate", "/api/chat", "/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages"}
)
"""The paths whose requests are captured, as in Ollama."""
MOST_REQUESTS = 1000
MOST_BYTES = 256 << 20
"""What the folder may hold. The oldest requests are removed, so the newest are there."""
MOST_HELD = 128 << 20
"""Bytes of bodies in memory that arrive or wait for the disk. A request beyond is answered, but not captured."""
LAST_WRITES = 2.0
"""Seconds that the server's stop waits for the disk."""
_OVERHEAD = 4 << 10  # bytes that a request counts for beside its body: a block of the disk, objects in memory
_SCRIPT = """\
#!/bin/sh
# Sends the request again: sh {name} [BASE_URL]
# $OLLAMA_API_KEY is sent as a bearer token if it is set.
FOLDER="$(CDPATH= cd -- "$(dirname -- "$0")" && pwd)" || exit
{{ [ -z "${{OLLAMA_API_KEY:-}}" ] || printf 'Authorization: Bearer %s\\n' "$OLLAMA_API_KEY"; }} |
    curl --silent --show-error --no-buffer --request POST --header @- {headers} \\
        --data-binary @"$FOLDER/{body}" --url "${{1:-{base}}}{path}"
"""
log = logging.getLogger("pronk.capture")


@dataclass(frozen=True, slots=True)
class _Request:
    """What is written of a request."""

    path: str
    base: str
    content_type: bytes
    encoding: bytes
    body: bytearray

    @property
    def size(self) -> int:
        return len(self.body) + _OVERHEAD


class Capture:
    """The folder with the newest requests. Files are written by one thread, in the order in which bodies were complete.

    Only the first failure to write is told. Raises nothing. A disk that hangs does not hang the server: the thread is a
    daemon, and the end waits for it no longer than `last_writes` seconds.
    """

    def __init__(
        self,
        *,
        most_requests: int = MOST_REQUESTS,
        most_bytes: int = MOST_BYTES,
        most_held: int = MOST_HELD,
        last_writes: float = LAST_WRITES,
    ) -> None:
        self.folder: Path | None = None
        self._most_requests, self._most_bytes, self._most_held = most_requests, most_bytes, most_held
        self._last_writes = last_writes
        self._thread = threading.Thread(target=self._run, name="capture", daemon=True)
        self._waiting: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._number = 0
        self._held = 0  # of the event loop
        self._files: deque[tuple[int, tuple[Path, ...]]] = deque()  # of the thread
        self._bytes = 0
        self._told: set[str] = set()

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """Make the folder; at the end, wait for what is to be written. The folder stays, unless it is empty."""
        self._thread.start()
        try:
            self.folder = Path(tempfile.mkdtemp(prefix="ollama-request-logs-"))  # with the rights 0700
        except OSError as error:
            log.warning("requests are not captured: no temporary folder: %s", error.strerror or error)
        else:
            log.info("request debug logging enabled, prompts are kept", extra=fields(folder=str(self.folder)))
        try:
            yield
        finally:
            self._waiting.put(None)
            await asyncio.to_thread(self._thread.join, self._last_writes)
            if self._thread.is_alive():
                log.warning("requests are not captured: the disk is too slow", extra=fields(bytes=self._held))
            if self.folder is not None:
                with suppress(OSError):
                    self.folder.rmdir()

    def hold(self, size: int) -> bool:
        """Count bytes in memory. Returns whether they may be kept; what may not is not counted."""
        if self._held + size > self._most_held:
            self._tell_once("a request is not captured: too many bytes wait, or it is too large")
            return False
        self._held += size
        return True

    def release(self, size: int) -> None:
        """Bytes that `hold` has counted are no longer in memory."""
        self._held -= size

    def add(self, request: _Request) -> None:
        """Have a request written, whose size was held; it is released then."""
        self._number += 1
        loop, number = asyncio.get_running_loop(), self._number

        def write() -> None:
            self._write(number, request)
            with suppress(RuntimeError):  # the loop is closed: the end has not waited for this
                loop.call_soon_threadsafe(self.release, request.size, context=Context())

        self._waiting.put(partial(copy_context().run, write))  # for the request's id

    def _run(self) -> None:
        """The thread: write one request after the other."""
        while (write := self._waiting.get()) is not None:
            write()

    def _write(self, number: int, request: _Request) -> None:
        if self.folder is None:
            return
        if request.size > self._most_bytes:
            self._tell_once("a request is not captured: it is larger than the folder may become")
            return
        now = datetime.now(UTC)
        stem = f"{now:%Y%m%dT%H%M%S.%f}000Z-{number:06}_{re.sub('[^A-Za-z0-9]', '_', request.path[1:])}"
        suffix = ".zst" if request.encoding.strip().lower() == b"zstd" else ""
        body, script = self.folder / f"{stem}_body.json{suffix}", self.folder / f"{stem}_request.sh"
        self._make_room(request.size)
        try:
            _write_new(body, request.body)
            _write_new(script, _script(script.name, body.name, request))
        except OSError as error:
            _remove(body, script)
            self._tell_once("requests cannot be captured: %s", error.strerror or str(error))
            return
        self._files.append((request.size, (body, script)))
        self._bytes += request.size
        log.info("request captured", extra=fields(body=str(body), replay=f"sh {quote(str(script))}"))

    def _make_room(self, size: int) -> None:
        while self._files and (len(self._files) >= self._most_requests or self._bytes + size > self._most_bytes):
            oldest, files = self._files.popleft()
            self._bytes -= oldest
            _remove(*files)

    def _tell_once(self, message: str, *values: str) -> None:
        if message not in self._told:
            self._told.add(message)
            log.warning(f"{message}; this is told once", *values)


class Capturing:
    """ASGI middleware behind the guard: hands bodies to a `Capture` once they are complete, as they were sent."""

    def __init__(self, app: ASGIApp, capture: Capture) -> None:
        self.app = app
        self.capture = capture

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI entry."""
        wanted = scope["type"] == "http" and scope["method"] == "POST" and scope["path"] in CAPTURED
        if not wanted or self.capture.folder is None or not self.capture.hold(_OVERHEAD):
            await self.app(scope, receive, send)
            return
        body: bytearray | None = bytearray()
        held = _OVERHEAD

        async def tee() -> Message:
            nonlocal body, held
            message = await receive()
            if body is None or message["type"] != "http.request":
                return message
            part = message.get("body", b"")
            if self.capture.hold(len(part)):
                body += part
                held += len(part)
                if message.get("more_body", False):
                    return message
                self.capture.add(_request(scope, body))
            else:
                self.capture.release(held)
            body, held = None, 0
            return message

        try:
            await self.app(scope, tee, send)
        finally:
            self.capture.release(held)


def _request(scope: Scope, body: bytearray) -> _Request:
    headers = dict(reversed(scope["headers"]))
    # Not the Host header: a script must send a key to this server only, whatever the client called it.
    host, port = scope["server"]
    base = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    kind, encoding = headers.get(b"content-type", b"application/json"), headers.get(b"content-encoding", b"")
    return _Request(scope["path"], base, kind, encoding, body)


def _script(name: str, body: str, request: _Request) -> bytes:
    """The script. Values of headers are any bytes, so they are quoted for the shell."""
    headers = [b"Content-Type: " + request.content_type]
    if request.encoding:
        headers.append(b"Content-Encoding: " + request.encoding)
    options = " ".join(f"--header {quote(header.decode('latin-1'))}" for header in headers)
    text = _SCRIPT.format(name=name, headers=options, body=body, base=request.base, path=request.path)
    return text.encode("latin-1")


def _write_new(path: Path, data: bytes | bytearray) -> None:
    """Write a new file that only its owner may read."""
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(data)


def _remove(*paths: Path) -> None:
    for path in paths:
        with suppress(OSError):
            path.unlink()
