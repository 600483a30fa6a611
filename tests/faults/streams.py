"""Clients of a server under faults: they note when each line came, and may leave or stop reading at any time."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from typing import Any

from tests.serving import Served

PATIENCE = 120.0  # seconds; whoever waits longer waits for ever
ENDLESS = {"num_predict": -1, "num_ctx": 1024, "num_thread": 1}
"""One thread each: threads that wait for each other measure the kernel's scheduler where others want the cores too."""


def story(model: str, **options: Any) -> dict[str, Any]:
    """A request for an answer without an end, unless the options say otherwise."""
    return {"model": model, "prompt": "Write a long story.", "raw": True, "options": ENDLESS | options}


class Stream:
    """One request to `/api/generate` and the lines of its answer, with the time of each by `time.perf_counter`.

    `program` is how the client names itself. `first` is set with the first line. Use `start`, then `ended` or `leave`.
    """

    def __init__(self, server: Served, body: dict[str, Any], program: str = "faults") -> None:
        self.first = asyncio.Event()
        self.status = 0
        self.headers: dict[str, str] = {}
        self.last: dict[str, Any] = {}
        self.lines = 0
        self.sent_at = self.first_at = self.last_at = self.head_at = 0.0
        self.longest_gap = 0.0
        self._port = int(server.url.rpartition(":")[2])
        self._body = json.dumps(body).encode()
        self._program = program
        self._task: asyncio.Task[None] | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def start(self, receive_buffer: int = 0) -> Stream:
        """Connect, send the request, begin to read. A small `receive_buffer` leaves what is not read to the server."""
        reader = await self.start_silent(receive_buffer)
        self._task = asyncio.create_task(self._read(reader))
        return self

    async def start_silent(self, receive_buffer: int = 0) -> asyncio.StreamReader:
        """Connect and send the request, but read nothing."""
        sock = socket.socket()
        if receive_buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", self._port))
        limit = receive_buffer or 2**16
        reader, self._writer = await asyncio.open_connection(sock=sock, limit=limit)
        head = (
            "POST /api/generate HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
            f"User-Agent: {self._program}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(self._body)}\r\n\r\n"
        )
        self.sent_at = time.perf_counter()
        self._writer.write(head.encode() + self._body)
        return reader

    async def ended(self, patience: float = PATIENCE) -> dict[str, Any]:
        """The last line, once the answer has ended. Raises TimeoutError."""
        assert self._task is not None
        await asyncio.wait_for(asyncio.shield(self._task), patience)
        return self.last

    async def begun(self, patience: float = PATIENCE) -> None:
        """Wait for the first line. Raises TimeoutError."""
        await asyncio.wait_for(self.first.wait(), patience)

    def leave(self) -> None:
        """Close the connection at once, whatever is still to come."""
        if self._task is not None:
            self._task.cancel()
        if self._writer is not None:
            self._writer.transport.abort()

    async def _read(self, reader: asyncio.StreamReader) -> None:
        try:
            self.status = int((await reader.readline()).split()[1])
            while name := (await reader.readline()).decode().strip():
                key, _, value = name.partition(":")
                self.headers[key.lower()] = value.strip()
            self.head_at = time.perf_counter()
            async for raw in reader:
                if raw.startswith(b"{"):  # the sizes of chunks lie between
                    self._note(raw)
        except (ConnectionError, IndexError):
            self.last = {"lost": True}
        self.first.set()
        if self._writer is not None:
            self._writer.close()

    def _note(self, raw: bytes) -> None:
        now = time.perf_counter()
        self.lines += 1
        if self.lines == 1:
            self.first_at = now
        else:
            self.longest_gap = max(self.longest_gap, now - self.last_at)
        self.last_at = now
        self.first.set()
        if b'"done":false' not in raw:
            self.last = json.loads(raw)


async def answer(server: Served, body: dict[str, Any]) -> Stream:
    """A whole answer."""
    stream = await Stream(server, body).start()
    await stream.ended()
    return stream
