"""A pull in a process of its own, to be killed: `python -m tests.registry.pull_child STORE NAME`."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from registry.storage.store import Store
from tests.registry.pulling import pull


def main(folder: str, name: str) -> None:
    asyncio.run(pull(Store(Path(folder)), name, parallel=4))


if __name__ == "__main__":
    main(*sys.argv[1:])
