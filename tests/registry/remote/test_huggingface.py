"""Models on Hugging Face: through its registry, and through its hub where the registry refuses."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from registry.bundled import MODELS
from registry.errors import Unreachable
from registry.gguf import read_header
from registry.manifest import ModelConfig
from registry.names import Digest, ModelName
from registry.progress import Step
from registry.remote.download import Policy
from registry.remote.huggingface import HuggingFace
from registry.remote.pull import ManifestUnavailable, Pulls
from registry.remote.retries import Retries
from registry.remote.transport import Network
from registry.storage.store import Store
from tests.registry.gguf.test_merge import split
from tests.registry.pulling import SMALL_PARTS, collect, no_pause, statuses
from tests.registry.servers.http import Answer, Server, serving
from tests.registry.servers.hub import Hub
from tests.registry.servers.internet import NO_TLS, Internet
from tests.registry.servers.registry import MemoryRegistry
from tests.registry.stores import blobs, check_whole, files, names

PUBLIC = "8.8.8.8"
PATH = MODELS[ModelName.parse("tinychat")].path
TEMPLATE = "application/vnd.ollama.image.template"


@dataclass
class World:
    """hf.co and its hub, and a store to pull into. The hub's address is told as that of a mirror is, or by default."""

    hub: Hub
    hub_server: Server
    elsewhere: Server
    registry_server: Server
    network: Network
    store: Store

    async def pull(self, text: str, *, token: str = "", mirrored: bool = False) -> list[Step]:
        hub = HuggingFace(endpoint=f"http://{self.hub_server.host}", token=token, mirrored=mirrored)
        policy = Policy(network=self.network, division=SMALL_PARTS, retries=Retries(sleep=no_pause))
        pulls = Pulls(self.store, Path("/nonexistent"), policy, hub=hub)
        return await collect(pulls.pull(ModelName.parse(text), insecure=True))


@asynccontextmanager
async def world(tmp_path: Path, hub: Hub, registry: object) -> AsyncIterator[World]:
    async with AsyncExitStack() as stack:
        hub_server, elsewhere = [await stack.enter_async_context(serving(hub)) for _ in range(2)]
        hub.elsewhere = f"localhost:{elsewhere.host.rpartition(':')[2]}"
        registry_server = await stack.enter_async_context(serving(registry))  # type: ignore[arg-type]
        places = {PUBLIC: registry_server.host, "127.0.0.1": hub_server.host}
        internet = Internet({"hf.co": [[PUBLIC]], "localhost": [["127.0.0.2"]]}, places)
        internet.places["127.0.0.2"] = elsewhere.host
        network = Network(stall=20, resolve=internet.resolve, make_pool=internet.make_pool, tls=NO_TLS)
        yield World(hub, hub_server, elsewhere, registry_server, network, Store(tmp_path / "models"))


def refuse(status: int, body: bytes = b"", **headers: str) -> object:
    return lambda _: Answer(status, body, headers)


SHARDED = refuse(400, b'{"error":"The specified tag is a sharded GGUF. Ollama does not support this yet."}')


async def test_the_registry_is_asked_first(tmp_path: Path) -> None:
    registry = MemoryRegistry()
    registry.add("user/repo:Q8_0", b"weights")
    async with world(tmp_path, Hub("user/repo"), registry) as here:
        assert statuses(await here.pull("hf.co/user/repo:Q8_0"))[-1] == "success"
        assert here.hub_server.requests == []
        assert here.registry_server.requests[0].path == "/v2/user/repo/manifests/Q8_0"
        assert names(here.store) == ["hf.co/user/repo:Q8_0"]


async def test_a_mirror(tmp_path: Path) -> None:
    """The type, the projector beside it, template and parameters; the token is for the hub alone."""
    weights = PATH.read_bytes()
    hub = Hub(
        "user/repo",
        {
            "m-Q4_K_M.gguf": weights + b"other",
            "m-Q8_0.gguf": weights,
            "mmproj-F16.gguf": b"projector" * 200,
            "README.md": b"read me",
            "template": b"{{ .Prompt }}",
            "params": b'{"stop": ["<|end|>"], "temperature": 0.5}',
            "folder/system": b"not in the root",
        },
        token="secret",
    )
    async with world(tmp_path, hub, refuse(500)) as here:
        steps = await here.pull("hf.co/user/repo:q8_0", token="secret", mirrored=True)
        assert here.registry_server.requests == []
        assert all("authorization" not in request.headers for request in here.elsewhere.requests)
        model = here.store.find(ModelName.parse("hf.co/user/repo:q8_0"))
        texts = {
            layer.media_type.rpartition(".")[2]: here.store.read_blob(layer.digest, 100)
            for layer in model.manifest.layers[2:]
        }
        config = ModelConfig.decode(here.store.read_blob(model.manifest.config.digest, 1000))
        check_whole(tmp_path / "models")
    projector = hub.files["mmproj-F16.gguf"]
    assert statuses(steps) == [
        "pulling manifest",
        *(f"pulling {Digest.of(data).hex[:12]}" for data in (weights, projector)),
        *("verifying sha256 digest", "writing manifest", "success"),
    ]
    kinds = [layer.media_type.rpartition(".")[2] for layer in model.manifest.layers]
    assert kinds == ["model", "projector", "template", "params"]
    assert [layer.digest for layer in model.manifest.layers[:2]] == [Digest.of(weights), Digest.of(projector)]
    assert texts == {
        "template": b"{{ .Prompt }}",
        "params": b'{"stop":["\\u003c|end|\\u003e"],"temperature":0.5}\n',
    }
    header = read_header(PATH)
    assert (config.model_format, config.model_family, config.file_type) == ("gguf", header.architecture, "Q8_0")


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    paths = split(PATH, tmp_path_factory.mktemp("shards"), 30)
    return {f"Q8_0/{path.name}": path.read_bytes() for path in paths}


async def test_a_split_model_becomes_one_file(tmp_path: Path, shards: dict[str, bytes]) -> None:
    async with world(tmp_path, Hub("user/repo", shards), SHARDED) as here:
        steps = await here.pull("hf.co/user/repo:Q8_0")
        assert [status for status in statuses(steps) if not status.startswith("pulling ")] == [
            "verifying sha256 digest",
            f"merging {len(shards)} parts",
            "writing manifest",
            "removing unused layers",
            "success",
        ]
        (layer,) = here.store.find(ModelName.parse("hf.co/user/repo:Q8_0")).manifest.layers
        header = read_header(here.store.blob_path(layer.digest))
        assert [tensor.name for tensor in header.tensors] == [tensor.name for tensor in read_header(PATH).tensors]
        assert len(blobs(tmp_path / "models")) == 2
        check_whole(tmp_path / "models")
        here.elsewhere.requests.clear()
        again = await here.pull("hf.co/user/repo:Q8_0")
        assert statuses(again)[-2:] == ["writing manifest", "success"]
        assert here.elsewhere.requests == []


async def test_a_private_repository(tmp_path: Path) -> None:
    """Its registry wants a token from elsewhere; ours is for the hub."""
    hub = Hub("user/repo", {"m.gguf": PATH.read_bytes()}, token="secret")
    challenge = {"www-authenticate": 'Bearer realm="http://other.example/token"'}
    async with world(tmp_path, hub, refuse(401, **challenge)) as here:
        with pytest.raises(ManifestUnavailable, match="does not match original host"):
            await here.pull("hf.co/user/repo")
        assert here.hub_server.requests == []
        assert statuses(await here.pull("hf.co/user/repo", token="secret"))[-1] == "success"


@pytest.mark.parametrize(
    ("hub", "text"),
    [
        (Hub("user/other"), "pull model manifest: file does not exist"),
        (Hub("user/repo", {"m-Q8_0.gguf": bytes(2000)}), "pull model manifest: file does not exist"),
        (Hub("user/repo", token="another"), "pull model manifest: file does not exist"),
        (Hub("user/repo", gated=True), "pull model manifest: 403: Ask for access."),
        (
            Hub("user/repo", {"m-Q4_0.gguf": bytes(2000), "params": b"[]"}),
            "pull model manifest: the repository's params are not a JSON object",
        ),
    ],
)
async def test_what_the_hub_does_not_give(tmp_path: Path, hub: Hub, text: str) -> None:
    async with world(tmp_path, hub, refuse(404)) as here:
        with pytest.raises(ManifestUnavailable) as caught:
            await here.pull("hf.co/user/repo:Q4_0", token="secret")
        assert str(caught.value) == text
    assert files(tmp_path) == set()


async def test_a_hub_that_is_down(tmp_path: Path) -> None:
    async with world(tmp_path, Hub("user/repo"), refuse(404)) as here:
        here.hub_server.handler = lambda _: Answer(body=b"<html>")
        with pytest.raises(ManifestUnavailable, match="pull model manifest: the hub's list of files cannot be read"):
            await here.pull("hf.co/user/repo")


async def test_an_endpoint_that_is_none(tmp_path: Path) -> None:
    hub = HuggingFace(endpoint="gopher://hub.example")
    with pytest.raises(Unreachable, match=r"gopher://hub\.example: "):
        await hub.find(ModelName.parse("hf.co/user/repo"), Network(), Store(tmp_path), None)


async def test_a_file_that_is_no_model(tmp_path: Path) -> None:
    async with world(tmp_path, Hub("user/repo", {"m.gguf": bytes(2000)}), refuse(404)) as here:
        with pytest.raises(ValueError, match="not in GGUF format"):
            await here.pull("hf.co/user/repo")
        assert here.store.list() == []


async def test_other_hosts_have_no_hub(tmp_path: Path) -> None:
    async with world(tmp_path, Hub("user/repo"), refuse(404)) as here:
        with pytest.raises(ManifestUnavailable):
            await here.pull("127.0.0.1/user/repo", mirrored=True)
        assert [request.path for request in here.hub_server.requests] == ["/v2/user/repo/manifests/latest"]


def test_the_environment() -> None:
    assert HuggingFace.from_env({}) == HuggingFace()
    environ = {"HF_ENDPOINT": "https://mirror.example/ ", "HF_TOKEN": " hf_x\n"}
    assert HuggingFace.from_env(environ) == HuggingFace(endpoint="https://mirror.example", token="hf_x", mirrored=True)
    assert "hf_x" not in repr(HuggingFace.from_env(environ))
