"""A pull whose process is killed, at any point: next to nothing is lost, and nothing is wrong."""

import asyncio
import random
import sys
from pathlib import Path

from registry.names import Digest
from registry.storage.partials import JOURNAL_EVERY
from registry.storage.store import Store
from tests.registry.pulling import pull, statuses, until
from tests.registry.servers.http import Answer, Request, Server, serving
from tests.registry.servers.registry import MemoryRegistry
from tests.registry.stores import blob_names, blobs, check_whole
from tests.serving import ROOT

DATA = random.Random(1).randbytes(24_000_000)
DIGEST = Digest.of(DATA)
PIECE = 1 << 16


def slow(request: Request, answer: Answer) -> Answer:
    if request.method == "GET" and "blobs" in request.path:
        answer.piece, answer.pause = PIECE, 0.001
    return answer


async def killed(server: Server, root: Path, after: int) -> None:
    """Start a pull, and kill it once the registry has sent so many bytes."""
    server.sent = 0
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.registry.pull_child", str(root), f"{server.host}/lib/m"), cwd=ROOT
    )
    try:
        await until(lambda: server.sent >= after or process.returncode is not None)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def written(store: Store) -> int:
    """Bytes of the blob that are in the partial's file, whether or not the journal knows."""
    partial = store.partial(DIGEST)
    path = store.blob_path(DIGEST)
    data = path.with_name(f"{path.name}-partial").read_bytes()
    blocks = range(0, len(data), 4096)
    assert partial.kept <= len(data)
    return sum(4096 for start in blocks if data[start : start + 4096] == DATA[start : start + 4096])


async def test_killed_again_and_again(tmp_path: Path) -> None:
    registry = MemoryRegistry(fault=slow)
    registry.add("lib/m:latest", DATA)
    store = Store(tmp_path / "models")
    draw = random.Random(2)
    kept = 0
    async with serving(registry) as server:
        for _ in range(4):
            await killed(server, tmp_path / "models", draw.randrange(len(DATA) // 3))
            if store.has_blob(DIGEST):
                kept = len(DATA)
                break
            before, kept = kept, store.partial(DIGEST).kept
            assert kept >= max(before, written(store) - JOURNAL_EVERY - (1 << 20))
        server.sent = 0
        steps = await pull(store, f"{server.host}/lib/m")
        assert statuses(steps)[-1] == "success"
        assert server.sent <= len(DATA) - kept + 1000
    check_whole(tmp_path / "models")
    assert blobs(tmp_path / "models") == blob_names(DATA, b"{}")
