"""Ollama's library and Hugging Face on this machine, behind a proxy and with certificates of their own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from pathlib import Path

from tests.registry.servers.certificates import tls_contexts
from tests.registry.servers.http import Handler, serving


@contextmanager
def internet(folder: Path, hosts: Mapping[str, Handler]) -> Iterator[dict[str, str]]:
    """The environment variables with which a server reaches these hosts, and no others."""
    started: asyncio.Queue[dict[str, str]] = asyncio.Queue()
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()

    async def run() -> None:
        async with _internet(folder, hosts) as environ:
            started.put_nowait(environ)
            await stop.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(run(),))
    thread.start()
    try:
        yield asyncio.run_coroutine_threadsafe(started.get(), loop).result(60)
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(60)
        loop.close()


@asynccontextmanager
async def _internet(folder: Path, hosts: Mapping[str, Handler]) -> AsyncIterator[dict[str, str]]:
    places: dict[str, str] = {}
    connections: set[asyncio.Task[None]] = set()

    async def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """What a proxy does with CONNECT, until both sides have ended."""
        task = asyncio.current_task()
        assert task is not None
        connections.add(task)
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                head = await reader.readuntil(b"\r\n\r\n")
                if place := places.get(head.split()[1].decode()):
                    await _tunnel(reader, writer, place)
                else:
                    writer.write(b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\n\r\n")
        finally:
            connections.discard(task)
            writer.close()

    async with AsyncExitStack() as stack:
        trusted = folder / "trusted.pem"
        for host, handler in hosts.items():
            own = folder / host
            own.mkdir()
            tls, _ = tls_contexts(own, host)
            server = await stack.enter_async_context(serving(handler, tls))
            places[f"{host}:443"] = server.host
            with trusted.open("ab") as file:
                file.write((own / "certificate.pem").read_bytes())
        proxy = await asyncio.start_server(connect, "127.0.0.1", 0)
        try:
            url = f"http://127.0.0.1:{proxy.sockets[0].getsockname()[1]}"
            yield {"HTTPS_PROXY": url, "https_proxy": url, "NO_PROXY": "127.0.0.1", "SSL_CERT_FILE": str(trusted)}
        finally:
            proxy.close()
            for task in connections:
                task.cancel()
            await asyncio.gather(*connections, return_exceptions=True)


async def _tunnel(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, place: str) -> None:
    host, _, port = place.partition(":")
    there, back = await asyncio.open_connection(host, int(port))
    try:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        await asyncio.gather(_pump(reader, back), _pump(there, writer))
    finally:
        back.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while data := await reader.read(64 << 10):
            writer.write(data)
            await writer.drain()
        writer.write_eof()
