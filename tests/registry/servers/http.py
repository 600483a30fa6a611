"""A small HTTP server whose answers are written byte by byte, so that they can be wrong in any way."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from urllib.parse import parse_qsl, urlsplit

REASONS = {200: "OK", 206: "Partial Content", 307: "Temporary Redirect", 401: "Unauthorized", 404: "Not Found"}


@dataclass(frozen=True, slots=True)
class Request:
    """What a client sent. Names of headers are in small letters."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes = b""

    @property
    def path(self) -> str:
        return urlsplit(self.target).path

    @property
    def query(self) -> list[tuple[str, str]]:
        return parse_qsl(urlsplit(self.target).query, keep_blank_values=True)

    @property
    def range(self) -> tuple[int, int] | None:
        """The bytes asked for, both ends included."""
        text = self.headers.get("range", "")
        if not text.startswith("bytes="):
            return None
        first, _, last = text.removeprefix("bytes=").partition("-")
        return int(first), int(last)


@dataclass(slots=True)
class Answer:
    """What a server says. After `cut` bytes of the body it hangs up, after `stall` bytes it falls silent."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    cut: int | None = None
    stall: int | None = None
    pause: float = 0.0
    """Seconds between two pieces of the body."""
    piece: int = 64 << 10


Handler = Callable[[Request], Answer | Awaitable[Answer]]


def read_everything(_: Request) -> bool:
    """Whether to read the body of a request before it is answered: always."""
    return True


@dataclass(slots=True)
class Server:
    """A running server, what it was asked, and what it answers."""

    handler: Handler
    reads: Callable[[Request], bool] = read_everything
    """Whether a request's body is read at all, from its first lines."""
    host: str = ""
    requests: list[Request] = field(default_factory=list)
    tasks: set[asyncio.Task[None]] = field(default_factory=set)
    sent: int = 0
    """Bytes of all bodies."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        task = asyncio.current_task()
        assert task is not None
        self.tasks.add(task)
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                while await self._exchange(reader, writer):
                    pass
        finally:
            self.tasks.discard(task)
            writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        request = await _read(reader, self.reads)
        self.requests.append(request)
        answer = self.handler(request)
        if not isinstance(answer, Answer):
            answer = await answer
        again = await self._write(writer, request, answer)
        if not self.reads(request):
            await asyncio.sleep(3600)  # the rest of the request stays where it is
        return again

    async def _write(self, writer: asyncio.StreamWriter, request: Request, answer: Answer) -> bool:
        """Whether the connection can be used again."""
        headers = {"content-length": str(len(answer.body)), **answer.headers}
        lines = [f"HTTP/1.1 {answer.status} {REASONS.get(answer.status, 'Whatever')}"]
        lines += [f"{name}: {value}" for name, value in headers.items() if value]
        writer.write("\r\n".join([*lines, "", ""]).encode("latin-1"))
        end = min(
            len(answer.body), *(limit for limit in (answer.cut, answer.stall) if limit is not None), len(answer.body)
        )
        body = b"" if request.method == "HEAD" else answer.body[:end]
        for start in range(0, len(body), answer.piece):
            writer.write(body[start : start + answer.piece])
            await writer.drain()
            self.sent += len(body[start : start + answer.piece])
            await asyncio.sleep(answer.pause)
        await writer.drain()
        if answer.stall is not None:
            await asyncio.sleep(3600)
        return answer.cut is None


@asynccontextmanager
async def serving(
    handler: Handler, tls: ssl.SSLContext | None = None, reads: Callable[[Request], bool] = read_everything
) -> AsyncIterator[Server]:
    """A server on a free port of this machine."""
    server = Server(handler, reads)
    listener = await asyncio.start_server(server.serve, "127.0.0.1", 0, ssl=tls)
    server.host = f"127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    try:
        yield server
    finally:
        listener.close()
        for task in server.tasks:
            task.cancel()
        await asyncio.gather(*server.tasks, return_exceptions=True)


async def _read(reader: asyncio.StreamReader, reads: Callable[[Request], bool]) -> Request:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = head.rstrip("\r\n").split("\r\n")
    method, target, _ = first.split(" ")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    request = Request(method, target, headers)
    if reads(request):
        request = replace(request, body=await reader.readexactly(int(headers.get("content-length", "0"))))
    return request
