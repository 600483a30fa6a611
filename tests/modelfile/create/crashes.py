"""A program that dies before each change to the disk while models are made, and looks at what is left every time.

`python -m tests.modelfile.create.crashes DIRECTORY` prints how many points there were.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import threading
import time
from pathlib import Path

from modelfile.conversation import Message
from registry.storage.store import Store
from tests.modelfile.create.models import PROJECTOR, gguf, make, name, upload
from tests.registry.crashes import Death
from tests.registry.stores import HOUR, blobs, check_whole, names

STORED = {"base:latest", "test:latest"}


def prepare(store: Store) -> None:
    """What is there before."""
    uploads = upload(store, m_gguf=gguf(), mmproj_gguf=PROJECTOR)
    asyncio.run(make(store, "base", files=uploads, template="{{ .Prompt }}", system="old"))
    asyncio.run(make(store, "test", base=name("base"), system="older", parameters={"top_k": 1}))


def change(store: Store) -> None:
    """A model in place of another one, derived from a third, with everything that a model can have."""
    texts = {"template": "{{ .System }}", "system": "new", "licenses": ("MIT", "GPL"), "parameters": {"seed": 1}}
    asyncio.run(make(store, "test", base=name("base"), messages=(Message("user", "hi"),), **texts))


def dies(root: Path, number: int) -> bool:
    """Make a model in a child that dies at this change. Whether it lived to see it."""
    child = os.fork()
    if child == 0:
        death = Death(number)
        threading.setprofile(death)
        sys.setprofile(death)
        change(Store(root))
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return True
    if os.waitstatus_to_exitcode(status) != 0:
        raise RuntimeError("the change failed")
    return False


def check(root: Path) -> None:
    """What is left is whole: both models are there, and what belongs to none of them can be tidied up."""
    store = Store(root)
    check_whole(root)
    assert set(names(store)) == STORED
    store.prune(time.time() + 2 * HOUR)
    check_whole(root)
    assert blobs(root) == {digest.filename for model in store.list() for digest in model.manifest.digests}
    assert not list(root.glob("making-*"))
    change(store)
    check_whole(root)


def main(directory: Path) -> None:
    prepare(Store(directory / "fresh"))
    number = 0
    while True:
        root = directory / "models"
        shutil.copytree(directory / "fresh", root)
        died = dies(root, number)
        check(root)
        shutil.rmtree(root)
        if not died:
            break
        number += 1
    print(number)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
