"""Downloads that are shared: who starts one, who ends it, and what those see who come between."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from registry.errors import BadStatus
from registry.manifest import MODEL, Layer
from registry.names import Digest, ModelName
from registry.remote.auth import Authority
from registry.remote.download import Downloads
from registry.remote.repository import Repository
from registry.storage.store import Store
from tests.registry.pulling import policy, until
from tests.registry.servers.http import Answer, Request, Server, serving
from tests.registry.servers.registry import MemoryRegistry

DATA = random.Random(1).randbytes(100_000)
LAYER = Layer(MODEL, Digest.of(DATA), len(DATA))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "models")


@pytest.fixture
def registry() -> MemoryRegistry:
    def silent(request: Request, answer: Answer) -> Answer:
        if request.method == "GET":
            answer.stall = 1000
        return answer

    registry = MemoryRegistry(fault=silent)
    registry.add("lib/m:latest", DATA)
    return registry


@pytest.fixture
async def server(registry: MemoryRegistry) -> AsyncIterator[Server]:
    async with serving(registry) as server:
        yield server


@pytest.fixture
def repository(server: Server) -> Repository:
    return Repository.of(ModelName.parse(f"{server.host}/lib/m"), Authority(Path("x")), insecure=True)


async def test_one_download_for_all(store: Store, repository: Repository) -> None:
    downloads = Downloads(store, policy())
    async with downloads.watch(LAYER, repository) as (first, started):
        assert started
        async with downloads.watch(LAYER, repository) as (second, started):
            assert (second, started) == (first, False)
        assert not first.task.done()
    assert first.task.cancelled()


async def test_who_comes_while_it_is_being_stopped_starts_a_new_one(
    store: Store, server: Server, registry: MemoryRegistry, repository: Repository
) -> None:
    downloads = Downloads(store, policy())
    stack = AsyncExitStack()
    first, _ = await stack.enter_async_context(downloads.watch(LAYER, repository))
    await until(lambda: len(server.requests) > 4)
    leaving = asyncio.create_task(stack.aclose())
    await asyncio.sleep(0)
    registry.fault = lambda _, answer: answer
    async with downloads.watch(LAYER, repository) as (second, started):
        assert started
        await second.finished()
    await leaving
    assert second is not first
    assert store.has_blob(LAYER.digest)


async def test_a_blob_that_has_come_meanwhile(store: Store, server: Server, repository: Repository) -> None:
    store.add_blob(DATA)
    async with Downloads(store, policy()).watch(LAYER, repository) as (shared, _):
        assert [step async for step in shared.progress()][-1] == (len(DATA), len(DATA))
        await shared.finished()
    assert server.requests == []


async def test_all_see_the_error(store: Store, registry: MemoryRegistry, repository: Repository) -> None:
    registry.fault = lambda request, answer: Answer(403, b"no") if request.method == "GET" else answer
    downloads = Downloads(store, policy())

    async def watch() -> None:
        async with downloads.watch(LAYER, repository) as (shared, _):
            async for _ in shared.progress():
                pass

    results = await asyncio.gather(watch(), watch(), return_exceptions=True)
    assert [type(result) for result in results] == [BadStatus, BadStatus]
