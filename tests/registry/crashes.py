"""A program that dies before each change to the disk in turn, and looks at what is left every time.

`python -m tests.registry.crashes DIRECTORY` prints how many points there were. It forks, so it is a process of its own
with one thread.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Any

from registry.names import Digest
from registry.storage.partials import Division
from registry.storage.store import Store
from tests.registry.stores import HOUR, add_model, blobs, check_whole, name, names

CHANGES = {"open", "write", "pwrite", "truncate", "ftruncate", "chmod", "fchmod", "fsync", "link", "rename", "replace"}
CHANGES |= {"mkdir", "rmdir", "remove", "unlink", "utime"}
"""Functions and methods that change what is on a disk: between two of these, one moment is like another."""


DOWNLOADED = bytes(range(30))


def download(store: Store) -> None:
    """Fetch a blob by parts: stopped on the way, and gone on with."""
    partial = store.partial(Digest.of(DOWNLOADED))
    partial.open(len(DOWNLOADED), Division(count=3, smallest=1, largest=10))
    partial.write(partial.parts[2], DOWNLOADED[20:25])
    partial.close()
    resume(store)


def resume(store: Store) -> None:
    """Go on with whatever is left of the download: what is said to be there is right."""
    partial = store.partial(Digest.of(DOWNLOADED))
    partial.open(len(DOWNLOADED), Division())
    for part in partial.parts:
        partial.write(part, DOWNLOADED[part.start : part.end])
    partial.commit()
    partial.close()


def change(store: Store) -> None:
    """One of each change that a store can be asked for."""
    add_model(store, "first", b"shared", b"own")
    download(store)
    old = add_model(store, "second", b"shared", b"replaced")
    with store.put_blob(Digest.of(b"uploaded")) as blob:
        blob.write(b"up")
        blob.write(b"loaded")
        blob.commit()
    add_model(store, "second", b"shared", b"uploaded")
    store.remove_unused(old.manifest.digests)
    store.copy(name("second"), name("user/copy:1"))
    store.delete(name("FIRST"))
    store.add_blob(b"orphan")
    store.prune(time.time() + 2 * HOUR)


class Death:
    """A profiler that kills its process before the call with this number."""

    def __init__(self, number: int) -> None:
        self._left = number

    def __call__(self, frame: FrameType, event: str, function: Any) -> None:
        if event == "c_call" and function.__name__ in CHANGES:
            if self._left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            self._left -= 1


def dies(root: Path, number: int) -> bool:
    """Change a store in a child that dies at this call. Whether it lived to see it."""
    child = os.fork()
    if child == 0:
        store = Store(root)
        sys.setprofile(Death(number))
        change(store)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return True
    if os.waitstatus_to_exitcode(status) != 0:
        raise RuntimeError("the change failed")
    return False


def check(root: Path) -> None:
    """What is left is whole, can be tidied up, and can be changed again."""
    store = Store(root)
    check_whole(root)
    resume(store)
    kept = names(store)
    store.prune(time.time() + 2 * HOUR)
    check_whole(root)
    assert names(store) == kept
    assert blobs(root) == {digest.filename for model in store.list() for digest in model.manifest.digests}
    assert not list(root.rglob(".*"))
    add_model(store, "second", b"shared", b"own")
    assert "second:latest" in names(store)


def main(directory: Path) -> None:
    number = 0
    while dies(directory / "models", number):
        check(directory / "models")
        shutil.rmtree(directory / "models")
        number += 1
    print(number)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
