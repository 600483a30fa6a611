"""A disk that is full before, or gets full on the way: a clear error, and nothing of what is there is lost."""

import random
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from registry.errors import DiskFull, ModelMissing, StoreError
from registry.names import Digest
from registry.storage.store import Store
from tests.disks import small_disk
from tests.registry.pulling import pull, statuses
from tests.registry.servers.http import Answer, Request, serving
from tests.registry.servers.registry import MemoryRegistry
from tests.registry.stores import HOUR, add_model, check_whole, name, names

SIZE = 1 << 20
DATA = random.Random(1).randbytes(SIZE * 6 // 10)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte; test_download.py has the same with a limit on files, which needs no root."""
    with small_disk(tmp_path / "disk", SIZE) as folder:
        yield folder


@pytest.fixture
def registry() -> MemoryRegistry:
    registry = MemoryRegistry()
    registry.add("lib/m:latest", DATA, DATA[::-1])
    registry.add("lib/fits:latest", DATA)
    return registry


def fill(path: Path) -> None:
    """Take all the room that is left."""
    with path.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))


async def test_no_room_is_said_before_the_first_byte(disk: Path, registry: MemoryRegistry) -> None:
    async with serving(registry) as server:
        with pytest.raises(DiskFull, match=r"no space left on device: 1\.3 MB needed, 1\.0 MB free"):
            await pull(Store(disk / "models"), f"{server.host}/lib/m")
        assert len(server.requests) == 1


async def test_a_disk_that_gets_full_on_the_way(disk: Path, registry: MemoryRegistry) -> None:
    store = Store(disk / "models")
    before = add_model(store, "other", b"x")

    def fault(request: Request, answer: Answer) -> Answer:
        if request.range is not None and request.range[0] > len(DATA) // 2 and not (disk / "hog").exists():
            fill(disk / "hog")
        return answer

    registry.fault = fault
    async with serving(registry) as server:
        with pytest.raises(StoreError, match="cannot write a blob: No space left on device"):
            await pull(store, f"{server.host}/lib/fits", parallel=1)
        kept = store.partial(Digest.of(DATA)).kept
        assert 0 < kept < len(DATA)
        assert store.list() == [before]
        check_whole(disk / "models")
        (disk / "hog").unlink()
        registry.fault = lambda _, answer: answer
        server.requests.clear()
        assert statuses(await pull(store, f"{server.host}/lib/fits"))[-1] == "success"
        ranges = [request.range for request in server.requests if request.range is not None]
        assert sum(last + 1 - first for first, last in ranges) <= len(DATA) - kept + 2
    assert names(store)[0].endswith("/lib/fits:latest")
    check_whole(disk / "models")


def test_a_full_disk_keeps_nobody_from_deleting(disk: Path) -> None:
    store = Store(disk / "models")
    models = ["a", "b", "user/c:1", "d"]
    for number, text in enumerate(models):
        add_model(store, text, b"shared", b"%d" % number)
    store.add_blob(b"orphan")
    fill(disk / "hog")
    broken = disk / "models" / "manifests" / "registry.ollama.ai" / "library" / "d" / "latest"
    broken.write_bytes(b"")
    fill(disk / "hog2")
    with pytest.raises(StoreError, match="cannot write a model: No space left on device"):
        store.copy(name("a"), name("x/copy"))
    for text in models:
        store.delete(name(text))
        with pytest.raises(ModelMissing):
            store.delete(name(text))
    store.prune(time.time() + 2 * HOUR)
    assert not list((disk / "models").rglob("sha256-*"))
    assert store.list() == []


def test_a_bundled_model_that_was_deleted_stays_so(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 16 << 20) as disk:
        store = Store(disk / "models")
        store.find(name("tinychat"))
        fill(disk / "hog")
        store.delete(name("tinychat"))
        for _ in range(2):
            with pytest.raises(ModelMissing):
                store.delete(name("tinychat"))
            with pytest.raises(ModelMissing):
                store.find(name("tinychat"), install=False)
        assert store.list() == []
