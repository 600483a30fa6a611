"""Connections that read while they write, plain and over TLS."""

import asyncio
import ssl
from collections.abc import AsyncGenerator
from pathlib import Path

import httpx
import pytest

from registry.errors import Stalled, Unreachable
from registry.remote.proxies import Proxies, UnusableProxy
from registry.remote.transport import Network, Transport
from tests.registry.servers.certificates import tls_contexts
from tests.registry.servers.http import Answer, Request, serving

SIZE = 20_000_000  # more than fits between two sockets


async def body(count: list[int]) -> AsyncGenerator[bytes, None]:
    """A large body that counts what is taken of it."""
    for _ in range(0, SIZE, 100_000):
        count.append(100_000)
        yield bytes(100_000)


async def send(url: str, tls: ssl.SSLContext, count: list[int], *, stall: float = 20) -> tuple[int, bytes]:
    parsed = httpx.URL(url)
    headers = {"Content-Length": str(SIZE)}
    async with (
        Transport(parsed, Network(stall=stall, tls=tls)) as transport,
        transport.send("PATCH", parsed, headers, content=body(count)) as response,
    ):
        return response.status_code, await transport.read(response)


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("reads", [False, True])
async def test_an_answer_before_the_end(tmp_path: Path, scheme: str, reads: bool) -> None:
    """Whether the server reads the rest or not, its answer arrives, and the next request as well."""
    server_side, client_side = tls_contexts(tmp_path, "localhost")
    tls = server_side if scheme == "https" else None
    async with serving(lambda _: Answer(413, b"too large"), tls, reads=lambda _: reads) as server:
        url = f"{scheme}://localhost:{server.host.rpartition(':')[2]}/x"
        for _ in range(2):
            count: list[int] = []
            assert await send(url, client_side, count) == (413, b"too large")
            assert (sum(count) == SIZE) is reads


async def test_a_server_that_neither_reads_nor_answers() -> None:
    async with serving(never, reads=lambda _: False) as server:
        with pytest.raises(Stalled):
            await send(f"http://{server.host}/x", ssl.create_default_context(), [], stall=0.5)


async def never(_: Request) -> Answer:
    await asyncio.sleep(3600)
    raise AssertionError


async def test_a_server_that_hangs_up() -> None:
    async with serving(lambda _: Answer(body=b"12345", cut=1)) as server:
        with pytest.raises(Unreachable):
            await send(f"http://{server.host}/x", ssl.create_default_context(), [])


async def test_a_registry_without_tls() -> None:
    """The words are Go's: who searches for them finds `--insecure`."""
    async with await asyncio.start_server(refuse, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(Unreachable, match=r"/x\": http: server gave HTTP response to HTTPS client$"):
            await send(f"https://127.0.0.1:{port}/x", ssl.create_default_context(), [])


async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """What servers without TLS say to the first bytes of TLS."""
    await reader.read(1)
    writer.write(b"HTTP/1.0 400 Bad Request\r\n\r\n")
    writer.close()
    await writer.wait_closed()


async def test_a_certificate_that_nobody_vouches_for(tmp_path: Path) -> None:
    server_side, _ = tls_contexts(tmp_path, "localhost")
    async with serving(lambda _: Answer(), server_side) as server:
        with pytest.raises(Unreachable, match=r"tls: failed to verify certificate: self-signed certificate$"):
            await send(f"https://{server.host}/x", ssl.create_default_context(), [])


async def test_proxies_that_cannot_be_used() -> None:
    url = httpx.URL("http://8.8.8.8/")
    async with Transport(url, Network(proxies=Proxies({"http": "socks4://127.0.0.1:1"}))) as transport:
        with pytest.raises(UnusableProxy, match='unsupported proxy scheme "socks4"'):
            async with transport.send("GET", url, {}):
                raise AssertionError
