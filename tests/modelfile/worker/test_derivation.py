"""Published models made loadable by a process of its own, which may be killed, run twice, or find the disk full."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

from modelfile.worker_client import JobFailed, run_job
from modelfile.worker_protocol import Derive
from registry.gguf import read_header
from registry.names import Digest
from registry.storage.store import Store
from tests.disks import small_disk
from tests.modelfile.published.pairs import PAIRS
from tests.processes import NewChildren

BULK = 16 << 20  # numbers of two bytes: so much that a process can be killed before it has copied them
FORMS = {"gemma3-1-text", "gemma3-1-projector"}
SIZE = 2 << 20


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "models")


def add(store: Store, folder: Path, bulk: int = 1) -> Digest:
    """Store the blob of a published model."""
    published = PAIRS["gemma3"]().published
    published.weights["mm.bulk"] = np.zeros((bulk // 1024 or 1, 1024), np.float16)
    return store.add_file(published.write(folder / "published.gguf")).digest


def nothing(_completed: int, _total: int) -> None:
    pass


async def derive(store: Store, digest: Digest, progress: Callable[[int, int], None] = nothing) -> None:
    job = Derive(blob=str(store.blob_path(digest)), folder=str(store.derived.folder))
    await run_job(job, os.environ, progress)


def made(store: Store) -> set[str]:
    """What is in the folder, without the name of the one blob."""
    return {path.name.split(".")[1] for path in store.derived.folder.iterdir()}


async def test_files_are_made_once(store: Store, tmp_path: Path) -> None:
    digest = add(store, tmp_path)
    reports: list[tuple[int, int]] = []
    await derive(store, digest, lambda *report: reports.append(report))
    assert made(store) == FORMS
    sizes = [store.derived.path(digest, form).stat().st_size for form in FORMS]
    assert reports[-1] == (sum(sizes), sum(sizes))
    inodes = {path.stat().st_ino for path in store.derived.folder.iterdir()}
    await derive(store, digest)
    assert {path.stat().st_ino for path in store.derived.folder.iterdir()} == inodes


async def test_two_at_once(store: Store, tmp_path: Path) -> None:
    digest = add(store, tmp_path, BULK)
    reports: list[list[tuple[int, int]]] = [[], []]
    await asyncio.gather(*(derive(store, digest, lambda *r, told=told: told.append(r)) for told in reports))
    assert sorted(map(bool, reports)) == [False, True]
    assert made(store) == FORMS


async def test_one_file_is_missing(store: Store, tmp_path: Path) -> None:
    digest = add(store, tmp_path)
    await derive(store, digest)
    text, projector = (store.derived.path(digest, f"gemma3-1-{part}") for part in ("text", "projector"))
    inode = text.stat().st_ino
    projector.unlink()
    await derive(store, digest)
    assert text.stat().st_ino == inode
    assert read_header(projector).architecture == "clip"


async def test_what_another_version_made_goes(store: Store, tmp_path: Path) -> None:
    digest = add(store, tmp_path)
    store.derived.folder.mkdir()
    store.derived.path(digest, "gemma3-0-text").write_bytes(b"old")
    await derive(store, digest)
    assert made(store) == FORMS


async def test_it_is_killed(store: Store, tmp_path: Path) -> None:
    digest = add(store, tmp_path, BULK)

    def kill(_completed: int, _total: int) -> None:
        for child in psutil.Process().children():
            child.kill()

    with pytest.raises(JobFailed, match="unexpectedly stopped: Killed"):
        await derive(store, digest, kill)
    (left,) = made(store)
    assert left.startswith("incoming-")
    await derive(store, digest)
    assert made(store) == FORMS


async def test_it_is_given_up(store: Store, tmp_path: Path) -> None:
    digest = add(store, tmp_path, BULK)
    begun, children = asyncio.Event(), NewChildren()
    task = asyncio.create_task(derive(store, digest, lambda *_: begun.set()))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not children()
    assert not made(store) & FORMS


async def test_a_model_that_has_been_removed(store: Store, tmp_path: Path) -> None:
    digest = add(store, tmp_path)
    store.remove_unused([digest])
    with pytest.raises(JobFailed, match="removed meanwhile"):
        await derive(store, digest)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of two megabytes."""
    with small_disk(tmp_path / "disk", SIZE) as folder:
        yield folder


async def test_a_full_disk_is_noticed_before_the_first_byte(disk: Path, tmp_path: Path) -> None:
    store = Store(disk)
    digest = add(store, tmp_path, 256 << 10)
    (disk / "hog").write_bytes(bytes(SIZE // 8))
    with pytest.raises(JobFailed, match=r"no space left on device: 1\.\d MB needed, \d+\.\d KB free"):
        await derive(store, digest)
    assert list(store.derived.folder.iterdir()) == []
