"""Pulls: the steps in order, what they leave in the store, and several of them at once."""

import asyncio
import json
import os
import random
from contextlib import aclosing
from pathlib import Path

import pytest

from registry.errors import CorruptDownload, DiskFull, RegistryError, StoreError
from registry.manifest import CONFIG, TENSOR, Layer, Manifest
from registry.names import Digest, ModelName
from registry.progress import Step
from registry.remote.pull import ManifestUnavailable, NeedsMLX
from registry.remote.repository import InsecureProtocol
from registry.storage.store import Store
from tests.registry.pulling import collect, pull, pulls, statuses, until
from tests.registry.servers.http import Answer, Request, serving
from tests.registry.servers.registry import MemoryRegistry
from tests.registry.stores import add_model, blob_names, blobs, check_whole, files, names

DATA = random.Random(1).randbytes(200_000)
SMALL = b"small"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "models"


@pytest.fixture
def store(root: Path) -> Store:
    return Store(root)


@pytest.fixture
def registry() -> MemoryRegistry:
    registry = MemoryRegistry()
    registry.add("lib/m:latest", DATA, SMALL, config=b'{"a":1}')
    return registry


def shown(data: bytes) -> str:
    return f"pulling {Digest.of(data).hex[:12]}"


def check_steps(steps: list[Step]) -> None:
    """Nothing goes backwards, every blob is whole in the end, and zeros are left out."""
    completed: dict[str, int] = {}
    for step in steps:
        if "digest" in step:
            assert step["status"] == f"pulling {step['digest'][7:19]}"
            assert step.get("completed", 0) >= completed.get(step["digest"], 0)
            completed[step["digest"]] = step.get("completed", 0)
            assert step["total"] >= completed[step["digest"]]
            assert 0 not in step.values()
    totals = {step["digest"]: step["total"] for step in steps if "digest" in step}
    assert completed == totals


async def test_the_steps(store: Store, root: Path, registry: MemoryRegistry) -> None:
    registry.manifests["lib/m:latest"] = json.dumps(json.loads(registry.manifests["lib/m:latest"]), indent=3).encode()
    async with serving(registry) as server:
        steps = await pull(store, f"{server.host}/lib/m")
    assert statuses(steps) == [
        "pulling manifest",
        *(shown(DATA), shown(SMALL), shown(b'{"a":1}')),
        *("verifying sha256 digest", "writing manifest", "success"),
    ]
    check_steps(steps)
    assert steps[-1] == {"status": "success"}
    (model,) = store.list()
    assert model.digest == Digest.of(registry.manifests["lib/m:latest"]).hex
    assert model.name.full == f"{server.host}/lib/m:latest"
    assert blobs(root) == blob_names(DATA, SMALL, b'{"a":1}')
    check_whole(root)


async def test_what_is_there_is_not_fetched_again(store: Store, registry: MemoryRegistry) -> None:
    async with serving(registry) as server:
        await pull(store, f"{server.host}/lib/m")
        server.requests.clear()
        steps = await pull(store, f"{server.host}/lib/m")
        assert [request.path for request in server.requests] == ["/v2/lib/m/manifests/latest"]
    assert steps == [
        {"status": "pulling manifest"},
        *(
            {"status": shown(data), "digest": str(Digest.of(data)), "total": len(data), "completed": len(data)}
            for data in (DATA, SMALL, b'{"a":1}')
        ),
        {"status": "verifying sha256 digest"},
        {"status": "writing manifest"},
        {"status": "success"},
    ]


async def test_a_blob_that_is_too_short_is_fetched_again(store: Store, registry: MemoryRegistry) -> None:
    async with serving(registry) as server:
        await pull(store, f"{server.host}/lib/m")
        os.truncate(store.blob_path(Digest.of(DATA)), 100)
        await pull(store, f"{server.host}/lib/m")
    assert store.blob_path(Digest.of(DATA)).read_bytes() == DATA


async def test_the_same_blob_twice(store: Store, root: Path, registry: MemoryRegistry) -> None:
    registry.add("lib/twice:1", SMALL, SMALL, config=SMALL)
    async with serving(registry) as server:
        steps = await pull(store, f"{server.host}/lib/twice:1")
        assert sum(request.method == "GET" for request in server.requests) == 2
    check_steps(steps)
    assert blobs(root) == blob_names(SMALL)


async def test_an_empty_layer(store: Store, root: Path, registry: MemoryRegistry) -> None:
    registry.add("lib/empty:1", b"")
    async with serving(registry) as server:
        await pull(store, f"{server.host}/lib/empty:1")
    assert blobs(root) == blob_names(b"", b"{}")


async def test_unused_layers_go(store: Store, root: Path, registry: MemoryRegistry) -> None:
    async with serving(registry) as server:
        await pull(store, f"{server.host}/lib/m")
        store.copy(ModelName.parse(f"{server.host}/lib/m"), ModelName.parse("copy"))
        registry.add("lib/m:latest", DATA, b"other", config=b'{"a":1}')
        assert "removing unused layers" not in statuses(await pull(store, f"{server.host}/lib/m"))
        store.delete(ModelName.parse("copy"))
        assert blobs(root) == blob_names(DATA, b"other", b'{"a":1}')
        registry.add("lib/m:latest", DATA, SMALL, config=b'{"a":1}')
        steps = await pull(store, f"{server.host}/lib/m")
        assert statuses(steps)[-3:] == ["writing manifest", "removing unused layers", "success"]
    assert blobs(root) == blob_names(DATA, SMALL, b'{"a":1}')


async def test_unused_layers_stay_if_wanted(store: Store, root: Path, registry: MemoryRegistry) -> None:
    async with serving(registry) as server:
        await pull(store, f"{server.host}/lib/m")
        registry.add("lib/m:latest", DATA, config=b'{"a":1}')
        keeping = pulls(store, keep_unused=True)
        name = ModelName.parse(f"{server.host}/lib/m")
        assert statuses(await collect(keeping.pull(name, insecure=True)))[-2:] == ["writing manifest", "success"]
    assert blobs(root) == blob_names(DATA, SMALL, b'{"a":1}')


async def test_the_stored_spelling_is_asked_for(store: Store, registry: MemoryRegistry) -> None:
    registry.add("lib/Foo:V1", SMALL)
    async with serving(registry) as server:
        await pull(store, f"{server.host}/lib/Foo:V1")
        await pull(store, f"{server.host}/LIB/foo:v1")
        assert server.requests[-1].path == "/v2/lib/Foo/manifests/V1"
    assert names(store) == [f"{server.host}/lib/Foo:V1"]


async def test_a_model_that_cannot_be_read_is_repaired(store: Store, root: Path, registry: MemoryRegistry) -> None:
    async with serving(registry) as server:
        await pull(store, f"{server.host}/lib/m")
        (root / "manifests" / server.host / "lib" / "m" / "latest").write_bytes(b"{")
        await pull(store, f"{server.host}/lib/m")
    assert names(store) == [f"{server.host}/lib/m:latest"]


async def test_the_bundled_model_needs_no_registry(store: Store) -> None:
    steps = await collect(pulls(store).pull(ModelName.parse("TinyChat")))
    assert [status for status in statuses(steps) if not status.startswith("pulling ")] == [
        *("verifying sha256 digest", "writing manifest", "success")
    ]
    assert names(store) == ["tinychat:latest"]


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (Answer(404), "pull model manifest: file does not exist"),
        (Answer(412, b"\n\nnewer, please"), "pull model manifest: 412: \n\nnewer, please"),
        (Answer(500, b"down"), "pull model manifest: max retries exceeded: 500: down"),
        (Answer(body=b"<html>"), "pull model manifest: invalid manifest: "),
        (Answer(body=b'{"config":{"mediaType":"","digest":"sha256:../x","size":1}}'), "invalid digest format"),
        (Answer(body=b"[" * 100_000), "pull model manifest: invalid manifest: "),
    ],
)
async def test_manifests_that_cannot_be_had(store: Store, root: Path, answer: Answer, text: str) -> None:
    async with serving(lambda _: answer) as server:
        with pytest.raises(ManifestUnavailable) as caught:
            await pull(store, f"{server.host}/lib/m")
    assert text in str(caught.value)
    assert files(root) == set()


async def test_nobody_there(store: Store) -> None:
    with pytest.raises(ManifestUnavailable, match=r'pull model manifest: Get "http://127\.0\.0\.1:1/v2/'):
        await pull(store, "127.0.0.1:1/lib/m:x")


async def test_schemes(store: Store) -> None:
    steps = pulls(store).pull(ModelName.parse("http://127.0.0.1:1/lib/m"))
    with pytest.raises(InsecureProtocol, match="insecure protocol http"):
        await collect(steps)
    with pytest.raises(RegistryError, match='unsupported protocol scheme "ftp"'):
        await pull(store, "ftp://127.0.0.1:1/lib/m")
    with pytest.raises(ManifestUnavailable, match=r'Get "https://127\.0\.0\.1:1/'):
        await collect(pulls(store).pull(ModelName.parse("127.0.0.1:1/lib/m")))
    with pytest.raises(RegistryError, match="invalid registry host"):
        await pull(store, "host:port/lib/m")


async def test_a_model_for_mlx(store: Store, registry: MemoryRegistry) -> None:
    tensor = Layer(TENSOR, Digest.of(SMALL), len(SMALL), name="a.weight")
    manifest = Manifest(Layer(CONFIG, Digest.of(b"{}"), 2), (tensor,) * 300)
    registry.manifests["lib/mlx:1"] = manifest.encode()
    async with serving(registry) as server:
        with pytest.raises(NeedsMLX, match="requires MLX support, but the MLX runtime is not available"):
            await pull(store, f"{server.host}/lib/mlx:1")


async def test_too_large_for_the_disk(store: Store, root: Path, registry: MemoryRegistry) -> None:
    model = Layer(CONFIG, Digest.of(b"huge"), 10**17)
    registry.manifests["lib/huge:1"] = Manifest(Layer(CONFIG, Digest.of(b"{}"), 2), (model,)).encode()
    async with serving(registry) as server:
        with pytest.raises(DiskFull, match=r"no space left on device: 100000\.0 TB needed, .* free"):
            await pull(store, f"{server.host}/lib/huge:1")
        assert len(server.requests) == 1
    assert files(root) == set()


async def test_a_corrupt_blob_publishes_nothing(store: Store, root: Path, registry: MemoryRegistry) -> None:
    registry.blobs[str(Digest.of(SMALL))] = b"?mall"
    async with serving(registry) as server:
        with pytest.raises(CorruptDownload, match="must be downloaded again"):
            await pull(store, f"{server.host}/lib/m")
        assert store.list() == []
        check_whole(root)
        registry.blobs[str(Digest.of(SMALL))] = SMALL
        check_steps(await pull(store, f"{server.host}/lib/m"))
    check_whole(root)


def slow(request: Request, answer: Answer) -> Answer:
    """Blobs that come in small pieces."""
    if request.method == "GET" and "blobs" in request.path:
        answer.piece, answer.pause = 2_000, 0.01
    return answer


async def test_two_clients_share_one_download(store: Store, root: Path, registry: MemoryRegistry) -> None:
    registry.fault = slow
    async with serving(registry) as server:
        both = pulls(store)
        name = ModelName.parse(f"{server.host}/lib/m")
        first, second = await asyncio.gather(
            collect(both.pull(name, insecure=True)), collect(both.pull(name, insecure=True))
        )
        ranges = [request.range for request in server.requests if request.range is not None]
        assert len(ranges) == len(set(ranges))
    for steps in (first, second):
        check_steps(steps)
        assert statuses(steps)[-1] == "success"
    check_whole(root)


async def test_whoever_stays_gets_everything(store: Store, root: Path, registry: MemoryRegistry) -> None:
    registry.fault = slow
    async with serving(registry) as server:
        both = pulls(store)
        name = ModelName.parse(f"{server.host}/lib/m")
        staying = asyncio.create_task(collect(both.pull(name, insecure=True)))
        async with aclosing(both.pull(name, insecure=True)) as leaving:
            async for step in leaving:
                if step.get("completed"):
                    break
        assert statuses(await staying)[-1] == "success"
        ranges = [request.range for request in server.requests if request.range is not None]
        assert len(ranges) == len(set(ranges))
    check_whole(root)


async def test_the_last_to_leave_stops_it(store: Store, registry: MemoryRegistry) -> None:
    registry.fault = slow
    async with serving(registry) as server:
        name = ModelName.parse(f"{server.host}/lib/m")
        async with aclosing(pulls(store).pull(name, insecure=True)) as leaving:
            async for step in leaving:
                if step.get("completed"):
                    break
        await until(lambda: len(server.tasks) == 0)
        kept = store.partial(Digest.of(DATA)).kept
        assert kept >= step["completed"]
        server.requests.clear()
        registry.fault = lambda _, answer: answer
        steps = await pull(store, f"{server.host}/lib/m")
        assert all(step.get("completed", kept) >= kept for step in steps if step["status"] == shown(DATA))
        ranges = [request.range for request in server.requests if request.range is not None]
        assert sum(last + 1 - first for first, last in ranges) == len(DATA) - kept + len(SMALL) + len(b'{"a":1}')


async def test_anothers_bad_registry_is_not_ours(store: Store, registry: MemoryRegistry) -> None:
    """Two registries offer the same blob; the first to be asked for it breaks off."""
    bad = MemoryRegistry(registry.blobs, registry.manifests, lambda request, answer: slow(request, answer))
    async with serving(bad) as bad_server, serving(registry) as server:
        both = pulls(store)
        first = asyncio.create_task(collect(both.pull(ModelName.parse(f"{bad_server.host}/lib/m"), insecure=True)))
        await until(lambda: any(request.range for request in bad_server.requests))
        second = asyncio.create_task(collect(both.pull(ModelName.parse(f"{server.host}/lib/m"), insecure=True)))
        await until(lambda: len(server.requests) == 1)
        bad.fault = lambda _, answer: Answer(403)
        for task in bad_server.tasks:
            task.cancel()
        with pytest.raises(RegistryError):
            await first
        check_steps(await second)
    assert names(store) == [f"{server.host}/lib/m:latest"]


async def test_nothing_is_lost_to_those_who_tidy_up(store: Store, root: Path, registry: MemoryRegistry) -> None:
    """Whatever is deleted or pruned while a pull is on its way."""
    add_model(store, "other", SMALL)
    registry.fault = slow
    async with (
        serving(registry) as server,
        aclosing(pulls(store).pull(ModelName.parse(f"{server.host}/lib/m"), insecure=True)) as steps,
    ):
        async for step in steps:
            if step.get("completed") and names(store) == ["other:latest"]:
                store.delete(ModelName.parse("other"))
            store.prune(4e9)
            store.remove_unused([Digest.of(SMALL), Digest.of(DATA), Digest.of(b'{"a":1}')])
    assert names(store) == [f"{server.host}/lib/m:latest"]
    check_whole(root)


@pytest.fixture
def spoilt(root: Path) -> Path:
    """A models directory in which no blob can be written."""
    root.mkdir()
    (root / "blobs").write_text("no folder")
    return root


async def test_a_disk_that_refuses(spoilt: Path, registry: MemoryRegistry) -> None:
    async with serving(registry) as server:
        with pytest.raises(StoreError) as caught:
            await pull(Store(spoilt), f"{server.host}/lib/m")
    assert str(spoilt) not in str(caught.value)
