"""Tokens: asked for where it is safe, signed for, shown to nobody else."""

import asyncio
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.errors import AccessDenied, BadAnswer, BadStatus, RegistryError, Untrusted
from registry.names import ModelName
from registry.remote.auth import Authority, Challenge, Key
from registry.remote.pull import ManifestUnavailable, Pulls
from registry.remote.repository import Repository
from registry.remote.transport import Network
from registry.storage.store import Store
from tests.registry.pulling import collect, policy, statuses
from tests.registry.servers.http import Answer, Request, serving
from tests.registry.servers.registry import MemoryRegistry
from tests.registry.servers.token import Gate

REGISTRY = httpx.URL("https://registry.example/v2/")


@pytest.mark.parametrize(
    ("header", "challenge"),
    [
        ('Bearer realm="https://a/t",service="s",scope="x y"', Challenge("https://a/t", "s", "x y")),
        ('Bearer scope="x",realm="https://a/t"', Challenge("https://a/t", "", "x")),
        ('Bearer realm="a"b",service="c"', Challenge('a"b', "c", "")),
        ('Bearer realm="a', Challenge("", "", "")),
        ('Basic realm="Registry"', Challenge("Registry", "", "")),
        ("", Challenge("", "", "")),
    ],
)
def test_challenges(header: str, challenge: Challenge) -> None:
    assert Challenge.parse(header) == challenge


@given(st.text())
def test_any_challenge(text: str) -> None:
    challenge = Challenge.parse(text)
    try:
        url = challenge.url(REGISTRY, 0, bytes(16))
    except Untrusted:
        return
    assert url.host == REGISTRY.host


def test_where_the_token_is() -> None:
    challenge = Challenge("https://registry.example/token", "ollama.com", "repository:library/x:pull a")
    assert str(challenge.url(REGISTRY, 1700000000, bytes(16))) == (
        "https://registry.example/token?nonce=AAAAAAAAAAAAAAAAAAAAAA"
        "&scope=repository%3Alibrary%2Fx%3Apull&scope=a&service=ollama.com&ts=1700000000"
    )
    assert str(Challenge("https://registry.example/token", "", "").url(REGISTRY, 1, bytes(16))).endswith(
        "&scope=&service=&ts=1"
    )


@pytest.mark.parametrize(
    "realm",
    [
        "https://evil.example/token",
        "https://registry.example:444/token",
        "https://registry.example@evil.example/token",
        "https://evil.registry.example/token",
        "http://registry.example/token",
        "//evil.example/token",
        "token",
        "",
        "https://[",
    ],
)
def test_where_no_token_is_asked_for(realm: str) -> None:
    with pytest.raises(Untrusted):
        Challenge(realm, "s", "x").url(REGISTRY, 1, bytes(16))


def test_hugging_face_has_two_names() -> None:
    challenge = Challenge("https://huggingface.co/v2/token", "", "")
    assert challenge.url(httpx.URL("https://hf.co"), 1, bytes(16)).host == "huggingface.co"
    with pytest.raises(Untrusted):
        Challenge("https://hf.co/v2/token", "", "").url(httpx.URL("https://huggingface.co"), 1, bytes(16))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "models")


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    return tmp_path / "keys"


@pytest.fixture
def gate() -> Gate:
    registry = MemoryRegistry()
    registry.add("lib/m:latest", bytes(50_000))
    return Gate(registry)


async def pull(store: Store, keys: Path, host: str) -> list[str]:
    name = ModelName.parse(f"{host}/lib/m")
    return statuses(await collect(Pulls(store, keys, policy()).pull(name, insecure=True)))


async def test_a_pull_with_a_token(store: Store, keys: Path, gate: Gate) -> None:
    gate.keys = {Key.load_or_make(keys).public_line.split()[1]}
    async with serving(gate) as server:
        assert (await pull(store, keys, server.host))[-1] == "success"
        (request,) = gate.asked
        query = request.query
        assert [name for name, _ in query] == ["nonce", "scope", "scope", "service", "ts"]
        assert len(dict(query)["nonce"]) == 22
        assert [value for name, value in query if name == "scope"] == ["repository:lib/m:pull,push", "other"]


async def test_a_token_that_expires_on_the_way(store: Store, keys: Path, gate: Gate) -> None:
    def expiring(request: Request) -> Answer:
        if len(server.requests) % 3 == 0:
            gate.tokens.clear()
        return registry(request)

    registry, gate.behind = gate.behind, expiring
    async with serving(gate) as server:
        assert (await pull(store, keys, server.host))[-1] == "success"
        assert len(gate.asked) > 1


async def test_many_requests_one_token(keys: Path, gate: Gate) -> None:
    async with serving(gate) as server:
        repository = Repository.of(ModelName.parse(f"{server.host}/lib/m"), Authority(keys), insecure=True)
        async with repository.connect(Network(stall=20)) as connection:
            await asyncio.gather(*(connection.manifest() for _ in range(8)))
    assert len(gate.asked) == 1


async def test_a_key_that_is_not_known(store: Store, keys: Path, gate: Gate) -> None:
    gate.keys = {"another"}
    async with serving(gate) as server:
        with pytest.raises(ManifestUnavailable, match=r"pull model manifest: 403: who are you\?"):
            await pull(store, keys, server.host)


async def test_a_token_that_does_not_help(keys: Path) -> None:
    def handler(request: Request) -> Answer:
        if request.path == "/token":
            return Answer(body=b'{"token":"useless"}')
        return Answer(401, headers={"www-authenticate": f'Bearer realm="http://{server.host}/token"'})

    async with serving(handler) as server:
        repository = Repository.of(ModelName.parse(f"{server.host}/lib/m"), Authority(keys), insecure=True)
        async with repository.connect(Network(stall=20)) as connection:
            with pytest.raises(AccessDenied, match="unauthorized: access denied"):
                await connection.manifest()
        assert len(server.requests) == 3


@pytest.mark.parametrize("body", [b"", b"{}", b'{"token":1}', b'{"token":"a\\r\\nX: y"}', b'{"token":""}', b"[" * 5000])
async def test_answers_without_a_token(keys: Path, body: bytes) -> None:
    async with serving(lambda request: Answer(body=body)) as server:
        authority = Authority(keys)
        url = httpx.URL(f"http://{server.host}")
        repository = Repository.of(ModelName.parse(f"{server.host}/lib/m"), authority, insecure=True)
        async with repository.connect(Network(stall=20)) as connection:
            with pytest.raises(BadAnswer, match="holds no token"):
                await authority.renew(connection.transport, url, f'Bearer realm="{url}/token"', "")
    assert authority.headers == {}


async def test_a_foreign_token_server_is_not_asked(store: Store, keys: Path, gate: Gate) -> None:
    async with serving(lambda _: Answer(body=b'{"token":"x"}')) as foreign, serving(gate) as server:
        gate.realm = f"http://{foreign.host}/token"
        with pytest.raises(ManifestUnavailable, match=f'realm host "{foreign.host}" does not match original host'):
            await pull(store, keys, server.host)
        assert foreign.requests == []


async def test_the_token_is_not_shown_to_others(store: Store, keys: Path, gate: Gate) -> None:
    """Blobs are elsewhere, and that place asks for a token too."""
    async with serving(lambda _: Answer(401, headers={"www-authenticate": 'Bearer realm="x"'})) as elsewhere:
        place = f"http://localhost:{elsewhere.host.rpartition(':')[2]}/x"
        registry = gate.behind
        gate.behind = lambda request: (
            Answer(307, headers={"location": place})
            if "blobs" in request.path and request.method == "GET"
            else registry(request)
        )
        async with serving(gate) as server:
            with pytest.raises(BadStatus, match="401"):
                await pull(store, keys, server.host)
            assert len(gate.asked) == 1
        assert ["authorization" in request.headers for request in elsewhere.requests] == [False] * len(
            elsewhere.requests
        )
        assert elsewhere.requests != []


@pytest.fixture
def spoilt_keys(keys: Path) -> Path:
    """A folder whose key cannot be read."""
    keys.mkdir()
    (keys / "id_ed25519").write_text("garbage")
    return keys


async def test_an_unusable_key_is_an_error_of_its_own(store: Store, spoilt_keys: Path, gate: Gate) -> None:
    async with serving(gate) as server:
        with pytest.raises(RegistryError, match="the key id_ed25519 cannot be read"):
            await pull(store, spoilt_keys, server.host)
