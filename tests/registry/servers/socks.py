"""A SOCKS5 proxy for tests: it knows names that nobody else does, and where they lead."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

_VERSION, _NO_AUTH, _PASSWORD, _REFUSED = 5, 0, 2, 5
_IPV4, _NAME, _IPV6 = 1, 3, 4


@dataclass
class Socks:
    """Connects names and addresses to `places` (as `host:port`); remembers what it was asked for."""

    places: dict[str, str] = field(default_factory=dict)
    auth: tuple[str, str] | None = None
    asked: list[tuple[str, int]] = field(default_factory=list)
    logins: list[tuple[str, str]] = field(default_factory=list)
    host: str = ""

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if await self._greet(reader, writer):
                await self._connect(reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _greet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        version, count = await reader.readexactly(2)
        assert version == _VERSION
        methods = await reader.readexactly(count)
        wanted = _NO_AUTH if self.auth is None else _PASSWORD
        if wanted not in methods:
            writer.write(bytes([_VERSION, 0xFF]))
            return False
        writer.write(bytes([_VERSION, wanted]))
        if self.auth is None:
            return True
        await reader.readexactly(1)
        name, password = [(await reader.readexactly((await reader.readexactly(1))[0])).decode() for _ in range(2)]
        self.logins.append((name, password))
        writer.write(bytes([1, 0 if self.auth == (name, password) else 1]))
        return self.auth == (name, password)

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        _, _, _, kind = await reader.readexactly(4)
        if kind == _NAME:
            host = (await reader.readexactly((await reader.readexactly(1))[0])).decode()
        else:
            raw = await reader.readexactly(4 if kind == _IPV4 else 16)
            host = ".".join(map(str, raw)) if kind == _IPV4 else raw.hex(":", 2)
        (port,) = struct.unpack(">H", await reader.readexactly(2))
        self.asked.append((host, port))
        place = self.places.get(host)
        writer.write(bytes([_VERSION, _REFUSED if place is None else 0, 0, _IPV4, 0, 0, 0, 0, 0, 0]))
        if place is not None:
            await _pipe(place, reader, writer)


async def _pipe(place: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    host, _, port = place.partition(":")
    their_reader, their_writer = await asyncio.open_connection(host, int(port))
    copies = [
        asyncio.create_task(_copy(reader, their_writer)),
        asyncio.create_task(_copy(their_reader, writer)),
    ]
    try:
        await asyncio.wait(copies, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for copy in copies:
            copy.cancel()
        await asyncio.gather(*copies, return_exceptions=True)
        their_writer.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()


@asynccontextmanager
async def proxying(socks: Socks) -> AsyncIterator[Socks]:
    """The proxy on a free port of this machine, for as long as it is needed."""
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        with suppress(asyncio.CancelledError):  # the test is over
            await socks(reader, writer)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    socks.host = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield socks
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
