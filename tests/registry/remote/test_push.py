"""Pushes: to the CNCF's registry and back, as Ollama does it, and to registries that make it hard."""

import hashlib
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from registry.errors import AccessDenied, BadStatus, BlobMissing, ModelMissing, Unreachable
from registry.manifest import CONFIG, MODEL, Layer, Manifest
from registry.names import Digest, ModelName
from registry.progress import Step
from registry.remote.auth import Authority
from registry.remote.pull import ManifestUnavailable
from registry.remote.push import push
from registry.remote.retries import RetriesExceeded
from registry.storage.partials import Division
from registry.storage.store import Store
from tests.registry.pulling import collect, policy, pull, statuses
from tests.registry.servers.cncf import CNCFRegistry, cncf_registry
from tests.registry.servers.http import Answer, Request, Server, serving
from tests.registry.servers.token import Gate, forward
from tests.registry.servers.uploads import RedirectingRegistry
from tests.registry.stores import add_model, files, names
from tests.serving import ROOT

TRACE = ROOT / "tests" / "data" / "golden" / "registry-trace.json"
DATA = random.Random(1).randbytes(300_000)
QUARTERS = Division(count=4, smallest=1, largest=1 << 30)


@pytest.fixture(scope="module")
def cncf(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CNCFRegistry]:
    with cncf_registry(tmp_path_factory.mktemp("cncf")) as registry:
        yield registry


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "models"


@pytest.fixture
def store(root: Path) -> Store:
    return Store(root)


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    return tmp_path / "keys"


async def send(store: Store, text: str, keys: Path = Path("/nonexistent"), **fields: Any) -> list[Step]:
    """Push a model over http; its steps."""
    return await collect(push(store, ModelName.parse(text), Authority(keys), policy(**fields), insecure=True))


def content(root: Path) -> dict[str, bytes]:
    return {name: (root / name).read_bytes() for name in files(root)}


async def test_there_and_back(store: Store, root: Path, cncf: CNCFRegistry) -> None:
    """The bundled model, in four parts."""
    name = ModelName.parse(f"{cncf.host}/lib/tiny:v1")
    store.find(ModelName.parse("tinychat"))
    store.copy(ModelName.parse("tinychat"), name)
    before = content(root / "blobs")
    steps = await send(store, name.full, division=QUARTERS)
    model, config = store.find(name).manifest.layers[0], store.find(name).manifest.config
    assert statuses(steps) == [
        "retrieving manifest",
        *(f"pushing {layer.digest.hex[:12]}" for layer in (model, config)),
        *("pushing manifest", "success"),
    ]
    counts = [step.get("completed", 0) for step in steps if step.get("digest") == str(model.digest)]
    assert counts == sorted(counts)
    assert counts[-1] == model.size
    for text in (name.full, "tinychat"):
        store.delete(ModelName.parse(text))
    assert content(root) == {}
    assert statuses(await pull(store, name.full))[-1] == "success"
    assert content(root / "blobs") == before
    assert names(store) == [name.full]


async def test_what_is_there_is_not_sent_again(store: Store, cncf: CNCFRegistry) -> None:
    add_model(store, f"{cncf.host}/lib/again", DATA)
    async with serving(forward(cncf.host)) as server:
        store.copy(ModelName.parse(f"{cncf.host}/lib/again"), ModelName.parse(f"{server.host}/lib/again"))
        await send(store, f"{server.host}/lib/again")
        server.requests.clear()
        steps = await send(store, f"{server.host}/lib/again")
        assert [request.method for request in server.requests] == ["HEAD", "HEAD", "PUT"]
    assert steps == [
        {"status": "retrieving manifest"},
        *(
            {
                "status": f"pushing {Digest.of(data).hex[:12]}",
                "digest": str(Digest.of(data)),
                "total": len(data),
                "completed": len(data),
            }
            for data in (DATA, b"{}")
        ),
        {"status": "pushing manifest"},
        {"status": "success"},
    ]


def same_request(ours: Request, theirs: dict[str, Any], sizes: dict[int, int]) -> None:
    """Whether a request is the one that Ollama sent, but for the model's bytes and the client's name."""
    assert ours.method == theirs["method"]
    for place, (mine, other) in enumerate(
        zip(ours.path.split("/"), theirs["path"].split("?")[0].split("/"), strict=True)
    ):
        assert mine == other or mine.startswith("sha256:") or place == 6
    length = len(ours.body)
    assert length == (sizes.get(theirs["body_bytes"], length) if theirs["body_bytes"] else 0)
    for name, value in theirs["headers"].items():
        mine = ours.headers[name.lower()]
        match name:
            case "User-Agent":
                assert mine.startswith("ollama/")
            case "Accept-Encoding":
                assert mine == "identity"
            case "Content-Length":
                assert int(mine) == length
            case "Content-Range":
                assert mine == f"0-{length - 1}"
            case _:
                assert mine == value


async def test_the_requests_of_ollama(store: Store, cncf: CNCFRegistry) -> None:
    """A first push, a repeated one, a pull, and one of an unknown name, as they were recorded."""
    trace = json.loads(TRACE.read_text(encoding="utf-8"))
    config = b'{"model_format":"gguf"}'
    async with serving(forward(cncf.host)) as server:
        name = ModelName.parse(f"{server.host}/lib/minilm")
        layers = [store.add_blob(DATA), store.add_blob(config)]
        store.write_manifest(name, Manifest(Layer(CONFIG, *layers[1]), (Layer(MODEL, *layers[0]),)))
        await send(store, name.full, division=Division())
        await send(store, name.full, division=Division())
        store.delete(name)
        await pull(store, name.full, division=Division())
        with pytest.raises(ManifestUnavailable, match="pull model manifest: file does not exist"):
            await pull(store, f"{server.host}/lib/nope")
    sizes = {45949216: len(DATA), 148: len(config)}
    *upload_and_model, unknown = trace
    ours = [request for request in server.requests if request.path != upload_and_model[-1]["path"]]
    for request, entry in zip(ours, upload_and_model, strict=False):
        same_request(request, entry, sizes)
    # Ollama's pull ends here, for the registry answers the blob itself; ours fetches the config as well.
    assert [request.method for request in ours[len(upload_and_model) :]] == ["HEAD", "GET", "GET"]
    same_request(ours[-1], unknown, sizes)
    assert ours[8].body == store_manifest(layers[0], layers[1])
    commit = dict(ours[3].query)
    assert commit["digest"] == str(layers[0].digest)
    assert commit["etag"] == f"{hashlib.md5(hashlib.md5(DATA).digest()).hexdigest()}-1"


def store_manifest(model: tuple[Digest, int], config: tuple[Digest, int]) -> bytes:
    """The manifest as it is pushed: without the line feed at the end."""
    return Manifest(Layer(CONFIG, *config), (Layer(MODEL, *model),)).encode().rstrip(b"\n")


def test_the_etag_of_ollama() -> None:
    assert hashlib.md5(hashlib.md5(b"You are Alice.").digest()).hexdigest() == "4328ea44a812e07b08a470dd08a70c55"


async def test_a_layer_of_another_model_is_mounted(store: Store, cncf: CNCFRegistry) -> None:
    layer, config = store.add_blob(DATA), store.add_blob(b"{}")
    async with serving(forward(cncf.host)) as server:
        base = ModelName.parse(f"{server.host}/lib/base")
        child = ModelName.parse(f"{server.host}/lib/child")
        store.write_manifest(base, Manifest(Layer(CONFIG, *config), (Layer(MODEL, *layer),)))
        store.write_manifest(child, Manifest(Layer(CONFIG, *config), (Layer(MODEL, *layer, from_=base.full),)))
        await send(store, base.full)
        server.requests.clear()
        await send(store, child.full)
        post = next(request for request in server.requests if request.method == "POST")
        assert post.target == f"/v2/lib/child/blobs/uploads/?from=lib%2Fbase&mount=sha256%3A{layer.digest.hex}"
        assert sum(len(request.body) for request in server.requests if request.method == "PATCH") == 2
        store.delete(child)
        assert statuses(await pull(store, child.full))[-1] == "success"
        assert store.find(child).manifest.layers[0].from_ == base.full


async def test_with_a_token(store: Store, root: Path, keys: Path, cncf: CNCFRegistry) -> None:
    gate = Gate(forward(cncf.host))
    async with serving(gate) as server:
        name = f"{server.host}/lib/guarded"
        add_model(store, name, DATA)
        await send(store, name, keys, division=QUARTERS)
        assert len(gate.asked) == 1


async def test_a_token_that_expires_in_mid_upload(store: Store, keys: Path, cncf: CNCFRegistry) -> None:
    behind = forward(cncf.host)

    def expiring(request: Request) -> Any:
        if request.method == "PATCH":
            gate.tokens.clear()
        return behind(request)

    gate = Gate(expiring)
    async with serving(gate) as server:
        add_model(store, f"{server.host}/lib/expiring", DATA)
        await send(store, f"{server.host}/lib/expiring", keys, division=QUARTERS)
        assert len(gate.asked) > 4


async def test_nobody_lets_us_in(store: Store, keys: Path) -> None:
    def handler(request: Request) -> Answer:
        if request.path == "/token":
            return Answer(body=b'{"token":"useless"}')
        return Answer(401, headers={"www-authenticate": f'Bearer realm="http://{server.host}/token"'})

    async with serving(handler) as server:
        add_model(store, f"{server.host}/lib/m", DATA)
        with pytest.raises(AccessDenied):
            await send(store, f"{server.host}/lib/m", keys)


async def test_an_upload_that_breaks_off_begins_again(store: Store, root: Path, cncf: CNCFRegistry) -> None:
    """The registry forgets an upload whose connection broke, as the CNCF's does."""
    behind = forward(cncf.host)
    breaks = ["third", "second", "first"]

    async def breaking(request: Request) -> Answer:
        if request.method == "PATCH" and breaks:
            breaks.pop()
            return Answer(status=404 if len(breaks) == 1 else 500, body=b"lost", cut=0)
        return await behind(request)  # type: ignore[misc]

    async with serving(breaking) as server:
        name = f"{server.host}/lib/broken"
        add_model(store, name, DATA)
        steps = await send(store, name, division=QUARTERS)
        counts = [step.get("completed", 0) for step in steps if step.get("total") == len(DATA)]
        assert counts == sorted(counts)
        assert breaks == []
        store.delete(ModelName.parse(name))
        await pull(store, name)


async def test_parts_that_are_wanted_elsewhere(store: Store) -> None:
    registry = RedirectingRegistry()
    async with serving(registry.storage) as elsewhere, serving(registry) as server:
        registry.elsewhere = elsewhere.host
        add_model(store, f"{server.host}/lib/m", DATA)
        await send(store, f"{server.host}/lib/m", division=QUARTERS)
        assert registry.blobs == {str(Digest.of(data)): data for data in (DATA, b"{}")}
        sums = b"".join(hashlib.md5(DATA[start : start + 75_000]).digest() for start in range(0, 300_000, 75_000))
        assert registry.etags[0] == f"{hashlib.md5(sums).hexdigest()}-4"
        sent = next(request for request in elsewhere.requests if request.path == "/75000")
        assert sent.method == "PUT"
        assert sent.headers["content-length"] == "75000"
        assert not {"authorization", "content-range"} & set(sent.headers)
        patches = [request.target for request in server.requests if request.method == "PATCH"]
        assert patches[:4] == ["/upload/0", "/upload/1", "/upload/75001", "/upload/150001"]


async def test_who_is_answered_early_does_not_send_the_rest(store: Store) -> None:
    """The registry says where it wants a part before it has read it, and never reads it."""
    registry = RedirectingRegistry()
    data = random.Random(2).randbytes(20_000_000)  # more than fits between two sockets
    async with (
        serving(registry.storage) as elsewhere,
        serving(registry, reads=lambda request: request.method != "PATCH") as server,
    ):
        registry.elsewhere = elsewhere.host
        add_model(store, f"{server.host}/lib/m", data)
        await send(store, f"{server.host}/lib/m", division=Division(count=2, smallest=1, largest=1 << 30))
        assert registry.blobs[str(Digest.of(data))] == data


async def test_storage_that_fails_now_and_then(store: Store) -> None:
    registry = RedirectingRegistry()
    failures = [500, 503]
    async with (
        serving(lambda request: Answer(failures.pop()) if failures else registry.storage(request)) as elsewhere,
        serving(registry) as server,
    ):
        registry.elsewhere = elsewhere.host
        add_model(store, f"{server.host}/lib/m", DATA)
        await send(store, f"{server.host}/lib/m", division=QUARTERS)
        assert registry.blobs[str(Digest.of(DATA))] == DATA
        elsewhere.handler = lambda _: Answer(403, b"expired")
        registry.blobs.clear()
        with pytest.raises(BadStatus, match="403: expired"):
            await send(store, f"{server.host}/lib/m", division=QUARTERS)


@pytest.mark.parametrize(("status", "error"), [(500, RetriesExceeded), (400, BadStatus), (413, BadStatus)])
async def test_a_registry_that_refuses(store: Store, status: int, error: type[Exception]) -> None:
    def handler(request: Request) -> Answer:
        return Answer(404) if request.method == "HEAD" else Answer(status, b"no")

    async with serving(handler) as server:
        add_model(store, f"{server.host}/lib/m", DATA)
        with pytest.raises(error, match=f"{status}: no"):
            await send(store, f"{server.host}/lib/m")


@pytest.mark.parametrize("headers", [{}, {"location": "http://user@host/x"}, {"location": "ftp://host/x"}])
async def test_a_registry_that_does_not_say_where(store: Store, headers: dict[str, str]) -> None:
    async with serving(lambda request: Answer(404 if request.method == "HEAD" else 202, headers=headers)) as server:
        add_model(store, f"{server.host}/lib/m", DATA)
        with pytest.raises((RetriesExceeded, Exception)) as caught:
            await send(store, f"{server.host}/lib/m")
        assert {request.method for request in server.requests} == {"HEAD", "POST"}
    assert "registry" in str(caught.value)


async def test_the_stored_spelling_is_sent(store: Store, cncf: CNCFRegistry) -> None:
    add_model(store, f"{cncf.host}/lib/spelled:V1", DATA)
    await send(store, f"{cncf.host}/LIB/Spelled:v1")
    store.delete(ModelName.parse(f"{cncf.host}/lib/spelled:V1"))
    assert statuses(await pull(store, f"{cncf.host}/lib/spelled:V1"))[-1] == "success"


async def test_an_empty_layer(store: Store, cncf: CNCFRegistry) -> None:
    name = f"{cncf.host}/lib/empty"
    add_model(store, name, b"")
    await send(store, name)
    store.delete(ModelName.parse(name))
    assert statuses(await pull(store, name))[-1] == "success"


async def test_small_requests_are_repeated_too(store: Store, cncf: CNCFRegistry) -> None:
    """Once the registry has answered, one that breaks off is no reason to give up."""
    behind = forward(cncf.host)
    breaks = {"/v2/lib/small/manifests/latest": 1, f"/v2/lib/small/blobs/{Digest.of(b'{}')}": 2}

    async def breaking(request: Request) -> Answer:
        if breaks.get(request.path):
            breaks[request.path] -= 1
            return Answer(body=b"x", cut=0) if request.method == "PUT" else Answer(headers={"content-length": "x"})
        return await behind(request)  # type: ignore[misc]

    async with serving(breaking) as server:
        add_model(store, f"{server.host}/lib/small", DATA)
        assert statuses(await send(store, f"{server.host}/lib/small"))[-1] == "success"
    assert set(breaks.values()) == {0}


async def test_nobody_there(store: Store) -> None:
    """Who has never answered is not asked again."""
    add_model(store, "127.0.0.1:1/lib/m", DATA)
    with pytest.raises(Unreachable, match="connection refused"):
        await send(store, "127.0.0.1:1/lib/m")


async def test_what_cannot_be_pushed(store: Store) -> None:
    with pytest.raises(ModelMissing, match=r"model '127\.0\.0\.1:1/lib/m:latest' not found"):
        await anext(push(store, ModelName.parse("127.0.0.1:1/lib/m"), Authority(Path("x")), policy()))
    add_model(store, "127.0.0.1:1/lib/m", DATA)
    store.blob_path(Digest.of(DATA)).unlink()
    async with serving(lambda request: Answer(404)) as server:
        add_model(store, f"{server.host}/lib/m", b"x")
        store.blob_path(Digest.of(b"x")).unlink()
        with pytest.raises(BlobMissing):
            await send(store, f"{server.host}/lib/m")


async def test_a_push_that_nobody_waits_for_ends(store: Store) -> None:
    sent: list[Server] = []

    def handler(request: Request) -> Answer:
        if request.method == "HEAD":
            return Answer(404)
        return Answer(202, headers={"location": "/upload"}, stall=0 if request.method == "PATCH" else None)

    async with serving(handler) as server:
        sent.append(server)
        add_model(store, f"{server.host}/lib/m", DATA)
        steps = push(store, ModelName.parse(f"{server.host}/lib/m"), Authority(Path("x")), policy(), insecure=True)
        async for step in steps:
            if step.get("completed"):
                break
        await steps.aclose()
    assert store.has_blob(Digest.of(DATA))
