"""Requests: where they may go, what they show to whom, how large and how slow an answer may be."""

import asyncio
import gzip
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from registry.errors import BadAnswer, RegistryError, Stalled, Unreachable, Untrusted
from registry.remote.proxies import Proxies
from registry.remote.transport import MAX_JSON, Network, Transport
from tests.registry.remote.test_addresses import NOWHERE, PRIVATE
from tests.registry.servers.certificates import tls_contexts
from tests.registry.servers.http import Answer, Handler, Request, Server, serving
from tests.registry.servers.internet import NO_TLS, Internet

PUBLIC = "8.8.8.8"
OTHER_PUBLIC = "9.9.9.9"


def redirect(location: str, status: int = 307) -> Answer:
    return Answer(status, b"", {"location": location})


async def get(network: Network, url: str, headers: dict[str, str] | None = None) -> tuple[int, bytes]:
    """Ask the registry that the URL is of."""
    parsed = httpx.URL(url)
    async with (
        Transport(parsed.copy_with(raw_path=b"/"), network) as transport,
        transport.send("GET", parsed, headers or {}) as response,
    ):
        return response.status_code, await transport.read(response)


def world(server: Server, *addresses: str) -> tuple[Internet, Network]:
    """An internet where `registry.example` is a public address, and the server is at all of these."""
    internet = Internet({"registry.example": [[PUBLIC]]}, dict.fromkeys((PUBLIC, *addresses), server.host))
    return internet, Network(stall=20, resolve=internet.resolve, make_pool=internet.make_pool, tls=NO_TLS)


def hop(location: str) -> Handler:
    """`/` leads to a place, everything else is a secret."""
    return lambda request: redirect(location) if request.path == "/" else Answer(body=b"secret")


async def test_a_public_registry_may_redirect_to_another() -> None:
    async with serving(hop("http://cdn.example/x")) as server:
        internet, network = world(server, OTHER_PUBLIC)
        internet.names["cdn.example"] = [[OTHER_PUBLIC]]
        assert await get(network, "http://registry.example/") == (200, b"secret")
        assert internet.connected == [PUBLIC, OTHER_PUBLIC]


@pytest.mark.parametrize("address", [address for address in (*PRIVATE, *NOWHERE) if "%" not in address])
async def test_a_public_registry_may_not_send_us_inside(address: str) -> None:
    written = f"[{address}]" if ":" in address else address
    for location in (f"http://{written}/x", "http://inside.example/x", "http://both.example/x"):
        async with serving(hop(location)) as server:
            internet, network = world(server, address)
            internet.names |= {"inside.example": [[address]], "both.example": [[OTHER_PUBLIC, address]]}
            with pytest.raises(Untrusted, match="not public"):
                await get(network, "http://registry.example/")
            assert internet.connected == [PUBLIC]


@pytest.mark.parametrize("host", ["2130706433", "0x7f.1", "localhost"])
async def test_odd_spellings_of_inside(host: str) -> None:
    async with serving(hop(f"http://{host}/x")) as server:
        internet, network = world(server, "127.0.0.1")
        internet.names[host] = [["127.0.0.1"]]
        with pytest.raises(Untrusted):
            await get(network, "http://registry.example/")
        assert internet.connected == [PUBLIC]


async def test_a_public_registry_does_not_become_a_private_one() -> None:
    """The name means something else when it is asked for again."""
    async with serving(hop("/again")) as server:
        internet, network = world(server, "10.0.0.1")
        internet.names["registry.example"] = [[PUBLIC], ["10.0.0.1"]]
        with pytest.raises(Untrusted):
            await get(network, "http://registry.example/")
        assert internet.connected == [PUBLIC]


async def test_a_private_registry_may_redirect_inside_but_not_to_metadata() -> None:
    locations = ["http://10.0.0.2/x", "http://169.254.169.254/x"]
    async with serving(lambda request: redirect(locations[0]) if request.path == "/" else Answer(body=b"x")) as server:
        internet, network = world(server, "10.0.0.2", "169.254.169.254")
        internet.names["registry.example"] = [["10.0.0.1"]]
        internet.places["10.0.0.1"] = server.host
        assert await get(network, "http://registry.example/") == (200, b"x")
        del locations[0]
        with pytest.raises(Untrusted):
            await get(network, "http://registry.example/")
        assert internet.connected == ["10.0.0.1", "10.0.0.2", "10.0.0.1"]


async def test_the_way_inside_over_a_public_host() -> None:
    async with serving(
        lambda request: redirect("http://9.9.9.9/x" if request.path == "/" else "http://10.0.0.2/y")
    ) as server:
        internet, network = world(server, OTHER_PUBLIC, "10.0.0.1", "10.0.0.2")
        internet.names["registry.example"] = [["10.0.0.1"]]
        with pytest.raises(Untrusted):
            await get(network, "http://registry.example/")
        assert internet.connected == ["10.0.0.1", OTHER_PUBLIC]


async def test_the_next_address_if_one_does_not_answer() -> None:
    async with serving(lambda _: Answer(body=b"x")) as server:
        internet, network = world(server)
        internet.names["registry.example"] = [["2606:4700::1", PUBLIC]]
        assert await get(network, "http://registry.example/") == (200, b"x")
        assert internet.connected == ["2606:4700::1", PUBLIC]


@pytest.mark.parametrize(
    "location",
    [
        "ftp://cdn.example/x",
        "file:///etc/passwd",
        "http://user:pass@cdn.example/x",
        "//[::1",
        "http://a b/",
    ],
)
async def test_redirects_that_are_not_followed(location: str) -> None:
    async with serving(hop(location)) as server:
        internet, network = world(server)
        with pytest.raises(RegistryError):
            await get(network, "http://registry.example/")
        assert internet.connected == [PUBLIC]


async def test_secrets_stay_at_home() -> None:
    def handler(request: Request) -> Answer:
        places = {"/": "/moved", "/moved": "http://cdn.example/x", "/x": "http://registry.example/back"}
        return redirect(places[request.path]) if request.path in places else Answer()

    async with serving(handler) as server:
        internet, network = world(server, OTHER_PUBLIC)
        internet.names["cdn.example"] = [[OTHER_PUBLIC]]
        await get(network, "http://registry.example/", {"Authorization": "Bearer secret", "Range": "bytes=0-1"})
        assert [(request.path, "authorization" in request.headers) for request in server.requests] == [
            ("/", True),
            ("/moved", True),
            ("/x", False),
            ("/back", False),
        ]
        assert {request.headers["range"] for request in server.requests} == {"bytes=0-1"}
        assert [request.headers["host"] for request in server.requests][1:3] == ["registry.example", "cdn.example"]


async def test_ten_redirects() -> None:
    def handler(request: Request) -> Answer:
        number = int(request.path.removeprefix("/") or 0)
        return redirect(f"/{number + 1}", 302) if number < limit else Answer(body=b"x")

    async with serving(handler) as server:
        limit = 10
        assert await get(Network(stall=20), f"http://{server.host}/") == (200, b"x")
        limit = 11
        with pytest.raises(Untrusted, match=r"maximum redirects exceeded \(10\)"):
            await get(Network(stall=20), f"http://{server.host}/")


async def test_a_large_answer() -> None:
    async with serving(lambda _: Answer(body=bytes(MAX_JSON + 1))) as server:
        with pytest.raises(BadAnswer, match="larger than 4194304 bytes"):
            await get(Network(stall=20), f"http://{server.host}/")


async def test_a_compressed_answer_is_not_unpacked() -> None:
    async with serving(
        lambda _: Answer(body=gzip.compress(bytes(1 << 20)), headers={"content-encoding": "gzip"})
    ) as server:
        with pytest.raises(BadAnswer, match="compressed"):
            await get(Network(stall=20), f"http://{server.host}/")
        assert server.requests[0].headers["accept-encoding"] == "identity"


@pytest.mark.parametrize(
    "answer",
    [Answer(body=b"12345", stall=0), Answer(body=b"12345", stall=2), Answer(body=bytes(500), piece=1, pause=0.05)],
)
async def test_silence_and_trickles(answer: Answer) -> None:
    async with serving(lambda _: answer) as server:
        with pytest.raises(Stalled):
            await get(Network(stall=0.4), f"http://{server.host}/")


async def test_silence_before_the_first_byte() -> None:
    async def handler(_: Request) -> Answer:
        await asyncio.sleep(3600)
        raise AssertionError

    async with serving(handler) as server:
        with pytest.raises(Stalled):
            await get(Network(stall=0.3), f"http://{server.host}/")


async def test_an_answer_that_breaks_off() -> None:
    async with serving(lambda _: Answer(body=b"12345", cut=2)) as server:
        with pytest.raises(Unreachable, match='Get "http://127'):
            await get(Network(stall=20), f"http://{server.host}/x?secret=1")


async def test_errors_say_what_happened_and_no_secrets() -> None:
    with pytest.raises(Unreachable) as caught:
        await get(Network(stall=20), "http://127.0.0.1:1/v2/?X-Signature=secret")
    assert str(caught.value) == 'Get "http://127.0.0.1:1/v2/": connection refused'
    internet = Internet()
    with pytest.raises(Unreachable, match=r"lookup nowhere\.example: Name or service not known"):
        await get(Network(resolve=internet.resolve), "http://nowhere.example/")


async def test_a_proxy() -> None:
    async with serving(lambda _: Answer(body=b"x")) as proxy:
        internet = Internet({"inside.example": [["10.0.0.1"]]})
        network = Network(stall=20, proxies=Proxies({"http": f"http://{proxy.host}"}), resolve=internet.resolve)
        assert await get(network, "http://registry.example/v2/") == (200, b"x")
        assert proxy.requests[0].target == "http://registry.example/v2/"


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_an_error_names_the_proxy(scheme: str) -> None:
    refusing = Proxies.from_env({"ALL_PROXY": "http://u:secret@127.0.0.1:1"})
    with pytest.raises(Unreachable) as caught:
        await get(Network(stall=20, proxies=refusing, resolve=Internet().resolve), f"{scheme}://registry.example/v2/")
    assert str(caught.value) == (
        f'Get "{scheme}://registry.example/v2/": through the proxy http://127.0.0.1:1: connection refused'
    )
    unknown = Proxies.from_env({"ALL_PROXY": "u:secret@no.such.proxy.invalid"})
    with pytest.raises(Unreachable, match=r"through the proxy http://no\.such\.proxy\.invalid:80: [A-Z]") as caught:
        await get(Network(stall=20, proxies=unknown, resolve=Internet().resolve), f"{scheme}://registry.example/v2/")
    assert "secret" not in str(caught.value)


async def test_an_error_names_the_proxy_that_refuses() -> None:
    async with serving(lambda _: Answer(status=407)) as proxy:
        network = Network(stall=20, proxies=Proxies({"https": f"http://{proxy.host}"}), resolve=Internet().resolve)
        with pytest.raises(Unreachable, match=rf"through the proxy http://{proxy.host}: 407"):
            await get(network, "https://registry.example/v2/")


async def test_a_proxy_is_not_sent_inside_either() -> None:
    async with serving(lambda request: hop("http://inside.example/x")(request)) as proxy:
        internet = Internet({"inside.example": [["10.0.0.1"]], "registry.example": [[PUBLIC]]})
        network = Network(stall=20, proxies=Proxies({"http": f"http://{proxy.host}"}), resolve=internet.resolve)
        proxy.handler = lambda _: redirect("http://inside.example/x")
        with pytest.raises(Untrusted):
            await get(network, "http://registry.example/")
        assert len(proxy.requests) == 1


async def test_the_user_agent() -> None:
    async with serving(lambda _: Answer()) as server:
        await get(Network(stall=20, version="0.40.1"), f"http://{server.host}/")
        assert server.requests[0].headers["user-agent"].startswith("ollama/0.40.1 (")


@pytest.fixture
async def secure(tmp_path: Path) -> AsyncIterator[tuple[Server, ssl.SSLContext]]:
    """A server with a certificate for `registry.example`, and what a client needs to trust it."""
    server_side, client_side = tls_contexts(tmp_path, "registry.example")
    async with serving(lambda _: Answer(body=b"x"), server_side) as server:
        yield server, client_side


async def test_certificates_are_checked_against_the_name(secure: tuple[Server, ssl.SSLContext]) -> None:
    server, tls = secure
    internet, network = world(server)
    internet.names["other.example"] = [[PUBLIC]]
    trusting = Network(stall=20, resolve=internet.resolve, make_pool=internet.make_pool, tls=tls)
    assert await get(trusting, "https://registry.example/") == (200, b"x")
    for wrong in ((trusting, "https://other.example/"), (network, "https://registry.example/")):
        with pytest.raises(Unreachable, match=r"(?i)certificate"):
            await get(*wrong)


async def test_no_way_from_https_to_http(secure: tuple[Server, ssl.SSLContext]) -> None:
    server, tls = secure
    internet, _ = world(server, OTHER_PUBLIC)
    network = Network(stall=20, resolve=internet.resolve, make_pool=internet.make_pool, tls=tls)
    server.handler = lambda _: redirect(f"http://{OTHER_PUBLIC}/")
    with pytest.raises(Untrusted, match="from https to http"):
        await get(network, "https://registry.example/")
    assert internet.connected == [PUBLIC]


async def test_a_registry_that_does_not_know_that_it_is_behind_tls(secure: tuple[Server, ssl.SSLContext]) -> None:
    server, tls = secure
    internet, _ = world(server)
    network = Network(stall=20, resolve=internet.resolve, make_pool=internet.make_pool, tls=tls)
    server.handler = hop("http://registry.example/x")
    assert await get(network, "https://registry.example/") == (200, b"secret")
    assert [request.path for request in server.requests] == ["/", "/x"]


async def test_a_bad_host_is_an_error_of_its_own() -> None:
    with pytest.raises(RegistryError):
        await get(Network(stall=20), f"http://{'a' * 70}.example/")
