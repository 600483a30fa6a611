"""Pulls through a SOCKS5 proxy: with a password, and from proxies that refuse or make no sense."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from registry.errors import RegistryError, Unreachable, Untrusted
from registry.names import ModelName
from registry.remote.proxies import Proxies
from registry.remote.pull import ManifestUnavailable, Pulls
from registry.remote.transport import Network, Transport
from registry.storage.store import Store
from tests.registry.pulling import collect, policy
from tests.registry.servers.certificates import tls_contexts
from tests.registry.servers.http import Answer, Request, serving
from tests.registry.servers.registry import MemoryRegistry
from tests.registry.servers.socks import Socks, proxying
from tests.registry.stores import check_whole, names

DATA = bytes(range(256)) * 40


async def unknown(host: str, _: int) -> list[str]:
    """The names of a network whose proxy alone knows them."""
    raise OSError("Name or service not known")


def network(proxy: str, **fields: object) -> Network:
    return Network(proxies=Proxies.from_env({"ALL_PROXY": proxy}), resolve=unknown, stall=5, **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize("scheme", ["socks5", "socks5h", "socks"])
async def test_a_pull(tmp_path: Path, scheme: str) -> None:
    registry = MemoryRegistry()
    registry.add("lib/m:latest", DATA)
    store = Store(tmp_path / "models")
    async with serving(registry) as server, proxying(Socks({"registry.example": server.host}, ("u@x", "p:w"))) as socks:
        pulls = Pulls(store, tmp_path, replace(policy(), network=network(f"{scheme}://u%40x:p%3Aw@{socks.host}")))
        await collect(pulls.pull(ModelName.parse("registry.example/lib/m"), insecure=True))
    assert set(socks.asked) == {("registry.example", 80)}
    assert set(socks.logins) == {("u@x", "p:w")}
    assert names(store) == ["registry.example/lib/m:latest"]
    check_whole(tmp_path / "models")


async def get(network: Network, url: str) -> bytes:
    parsed = httpx.URL(url)
    async with (
        Transport(parsed.copy_with(raw_path=b"/"), network) as transport,
        transport.send("GET", parsed, {}) as response,
    ):
        return await transport.read(response)


async def test_certificates_are_checked(tmp_path: Path) -> None:
    theirs, ours = tls_contexts(tmp_path, "registry.example")
    async with serving(lambda _: Answer(body=b"ok"), theirs) as server:
        places = {"registry.example": server.host, "other.example": server.host}
        async with proxying(Socks(places)) as socks:
            through = network(f"socks5h://{socks.host}", tls=ours)
            assert await get(through, "https://registry.example/") == b"ok"
            with pytest.raises(Unreachable, match="certificate"):
                await get(through, "https://other.example/")


async def test_a_public_registry_sends_nobody_inside() -> None:
    """The addresses that we know ourselves are looked at all the same."""

    def answer(request: Request) -> Answer:
        return Answer(307, headers={"location": "http://169.254.169.254/secret"})

    async with serving(answer) as server, proxying(Socks({"registry.example": server.host})) as socks:
        with pytest.raises(Untrusted):
            await get(network(f"socks5://{socks.host}"), "http://registry.example/")
        assert socks.asked == [("registry.example", 80)]


async def test_this_machine_is_reached_without() -> None:
    async with serving(lambda _: Answer(body=b"ok")) as server:
        assert await get(network("socks5://192.0.2.1:1"), f"http://{server.host}/") == b"ok"


async def test_a_proxy_that_refuses(tmp_path: Path) -> None:
    async with proxying(Socks(auth=("u", "p"))) as socks:
        for proxy in (f"socks5://{socks.host}", f"socks5://u:wrong@{socks.host}", f"socks5://u:p@{socks.host}"):
            with pytest.raises(RegistryError, match=r'^Get "http://registry\.example/": '):
                await get(network(proxy), "http://registry.example/")
    with pytest.raises(Unreachable, match="connection refused"):
        await get(network(f"socks5://{socks.host}"), "http://registry.example/")


@pytest.fixture(params=[b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x05", b"\x05\x00\x00", None])
async def odd(request: pytest.FixtureRequest) -> AsyncIterator[str]:
    """What answers so and hangs up, or does not answer at all."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        if request.param is None:
            await reader.read(100)
        else:
            writer.write(request.param)
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def test_what_is_no_proxy(odd: str) -> None:
    with pytest.raises(Unreachable):
        await get(replace(network(f"socks5://{odd}"), stall=0.5), "http://registry.example/")


async def test_the_error_has_no_secret(tmp_path: Path) -> None:
    pulls = Pulls(Store(tmp_path), tmp_path, replace(policy(), network=network("socks4://u:secret@proxy.example")))
    with pytest.raises(ManifestUnavailable, match='unsupported proxy scheme "socks4"') as caught:
        await collect(pulls.pull(ModelName.parse("registry.example/lib/m"), insecure=True))
    assert "secret" not in str(caught.value)
