"""Several programs on one models directory: what one needs the others leave alone, and what it left they remove."""

import asyncio
import multiprocessing
import os
import random
import signal
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from registry.names import Digest
from registry.storage.leases import FolderLock, held
from registry.storage.partials import Division
from registry.storage.store import GRACE, ModelMissing, Store
from tests.registry.stores import add_model, blob_names, blobs, check_whole, files, name, names

SPAWN = multiprocessing.get_context("spawn")
PATIENCE = 60
PARTIAL = {f"{Digest.of(b'second').filename}-partial{suffix}" for suffix in ("", "-0")}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "models"


@pytest.fixture
def ours(root: Path) -> Store:
    return Store(root)


@pytest.fixture
def other(root: Path) -> Store:
    """The store as another program has it: all that keeps the two apart is on the disk."""
    return Store(root)


def test_what_another_program_has_leased_stays(ours: Store, other: Store, root: Path) -> None:
    add_model(ours, "m", b"w")
    with ours.lease([Digest.of(b"w"), Digest.of(b"to come")]):
        other.delete(name("m"))
        other.prune(time.time() + 2 * GRACE)
        assert blobs(root) == blob_names(b"w")
        assert other.unused([Digest.of(b"w")]) == set()
    other.remove_unused([Digest.of(b"w")])
    assert files(root) == set()


def test_a_lease_that_says_nothing(ours: Store, root: Path) -> None:
    add_model(ours, "m", b"w")
    for number, text in enumerate((b"", b"{", b'{"digests":["x"],"made":true}')):
        (root / f"lease-{number}").write_bytes(text)
    (root / "lease-link").symlink_to("nothing")
    ours.prune(time.time())
    assert names(ours) == ["m:latest"]
    assert {path for path in files(root) if path.startswith("lease-")} == set()


def test_one_at_a_time(root: Path) -> None:
    root.mkdir()
    first, second = FolderLock(root), FolderLock(root)
    entered = threading.Event()

    def wait() -> None:
        with second:
            entered.set()

    thread = threading.Thread(target=wait)
    with first, first:
        thread.start()
        assert not entered.wait(0.2)
    assert entered.wait(PATIENCE)
    thread.join()


async def test_whoever_is_cancelled_while_it_waits_for_a_lease_has_none(ours: Store, other: Store, root: Path) -> None:
    ours.add_blob(b"w")

    async def hold() -> None:
        async with held(ours.lease([Digest.of(b"w")])):
            raise AssertionError

    lock = FolderLock(root)
    with lock:
        task = asyncio.create_task(hold())
        await asyncio.sleep(0.1)
        task.cancel()
        await asyncio.sleep(0.1)
    with pytest.raises(asyncio.CancelledError):
        await task
    other.remove_unused([Digest.of(b"w")])
    assert files(root) == set()


def _make(root: Path) -> None:
    """Blobs on their way to a model that never comes."""
    store = Store(root)
    with ExitStack() as holder, store.scratch() as folder:
        holder.enter_context(store.lease([Digest.of(b"made")], made=True))
        store.add_blob(b"made")
        (folder / "file").write_bytes(b"adopted")
        store.adopt(folder / "file", holder)
        (folder / "file").write_bytes(b"not yet")
        with store.new_blob() as writer:
            writer.write(b"incoming")
            os.kill(os.getpid(), signal.SIGKILL)


def _upload(root: Path) -> None:
    store = Store(root)
    with store.put_blob(Digest.of(b"uploaded")) as writer:
        writer.write(b"uploaded")
        writer.commit()
    with store.put_blob(Digest.of(b"half")) as writer:
        writer.write(b"ha")
        os.kill(os.getpid(), signal.SIGKILL)


def _download(root: Path) -> None:
    store = Store(root)
    with store.lease([Digest.of(b"first"), Digest.of(b"second")]):
        store.add_blob(b"first")
        partial = store.partial(Digest.of(b"second"))
        partial.open(6, Division())
        partial.write(partial.parts[0], b"sec")
        partial.close()
        os.kill(os.getpid(), signal.SIGKILL)


def _replace(root: Path) -> None:
    store = Store(root)
    with store.lease(store.find(name("m")).manifest.digests, made=True):
        add_model(store, "m", b"new")
        os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize(
    ("act", "left"),
    [
        (_make, blob_names(b"{}", b"w")),
        (_upload, blob_names(b"{}", b"w", b"uploaded")),
        (
            _download,
            blob_names(b"{}", b"w", b"first") | {f"{Digest.of(b'second').filename}-partial{x}" for x in ("", "-0")},
        ),
        (_replace, blob_names(b"{}", b"new")),
    ],
)
def test_what_a_program_leaves_that_dies(ours: Store, root: Path, act: Callable[[Path], None], left: set[str]) -> None:
    """Nothing of what nobody can go on with; what can be resumed or was uploaded stays for a while."""
    add_model(ours, "m", b"w")
    process = SPAWN.Process(target=act, args=(root,))
    process.start()
    process.join(PATIENCE)
    assert process.exitcode == -signal.SIGKILL
    ours.prune(time.time())
    assert blobs(root) == left
    assert {path.parts[0] for path in map(Path, files(root))} == {"blobs", "manifests"}
    assert not list(root.glob("making-*"))
    ours.prune(time.time() + GRACE + 60)
    assert blobs(root) == left - blob_names(b"uploaded", b"first") - PARTIAL


def _churn(root: Path, seed: int, seconds: float) -> None:
    """Make, copy, list and delete the same models as others do, without a word of complaint."""
    store, chance = Store(root), random.Random(seed)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        model = f"ns{chance.randrange(2)}/m{chance.randrange(3)}"
        with suppress(ModelMissing):
            match chance.randrange(5):
                case 0 | 1:
                    with ExitStack() as holder:
                        layers = [b"shared", b"%d" % chance.randrange(4)]
                        holder.enter_context(store.lease(map(Digest.of, (*layers, b"{}")), made=True))
                        add_model(store, model, *layers)
                case 2:
                    store.copy(name(model), name(f"ns{chance.randrange(2)}/m{chance.randrange(3)}"))
                case 3:
                    store.delete(name(model))
                case _:
                    for found in store.list():
                        store.find(found.name)
                    store.prune(time.time())


def test_two_programs_at_once(root: Path) -> None:
    processes = [SPAWN.Process(target=_churn, args=(root, seed, 4.0)) for seed in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(PATIENCE)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    check_whole(root)
    store = Store(root)
    for model in store.list():
        store.delete(model.name)
    store.prune(time.time() + 2 * GRACE)
    assert files(root) == set()
