"""Downloads from registries that cut, stall, corrupt, lie and forget."""

import asyncio
import os
import random
from pathlib import Path

import pytest

from registry.errors import BadStatus, CorruptDownload, DiskFull, NotFound, RegistryError, StoreError
from registry.names import Digest, ModelName
from registry.remote.auth import Authority
from registry.remote.download import Download, Policy
from registry.remote.repository import Repository
from registry.remote.retries import RetriesExceeded
from registry.storage.partials import Division
from registry.storage.store import Store
from tests.registry.pulling import policy, until
from tests.registry.servers.http import Answer, Request, Server, serving
from tests.registry.servers.registry import MemoryRegistry
from tests.registry.storage.test_files import largest_file

DATA = random.Random(1).randbytes(400_000)
DIGEST = Digest.of(DATA)
MANY = Division(count=4, smallest=1, largest=1 << 30)
ONE = Division(count=1, smallest=1, largest=1 << 30)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "models")


@pytest.fixture
def registry() -> MemoryRegistry:
    registry = MemoryRegistry()
    registry.add("lib/m:latest", DATA)
    return registry


async def fetch(store: Store, server: Server, how: Policy, size: int = len(DATA)) -> None:
    repository = Repository.of(ModelName.parse(f"{server.host}/lib/m"), Authority(Path("/nonexistent")), insecure=True)
    await Download(store, how, repository, DIGEST, size).run()


def stored(store: Store) -> bool:
    """Whether the blob is there and whole, and nothing else is."""
    if not store.has_blob(DIGEST):
        return False
    folder = store.blob_path(DIGEST).parent
    return store.blob_path(DIGEST).read_bytes() == DATA and os.listdir(folder) == [DIGEST.filename]


def asked(server: Server, method: str = "GET") -> list[tuple[int, int] | None]:
    return [request.range for request in server.requests if request.method == method]


async def test_parts_side_by_side(store: Store, registry: MemoryRegistry) -> None:
    async with serving(registry) as server:
        await fetch(store, server, policy(division=MANY))
        assert stored(store)
        assert sorted(place for place in asked(server) if place) == [
            (0, 99_999),
            (100_000, 199_999),
            (200_000, 299_999),
            (300_000, 399_999),
        ]


async def test_a_size_that_is_not_told(store: Store, registry: MemoryRegistry) -> None:
    def fault(request: Request, answer: Answer) -> Answer:
        return Answer(403) if request.method == "HEAD" else answer

    registry.fault = fault
    async with serving(registry) as server:
        await fetch(store, server, policy(division=MANY))
    assert stored(store)


async def test_the_registrys_size_is_the_one(store: Store, registry: MemoryRegistry) -> None:
    async with serving(registry) as server:
        await fetch(store, server, policy(division=MANY), size=7)
    assert stored(store)


@pytest.mark.parametrize("division", [ONE, MANY])
async def test_cut_again_and_again(store: Store, registry: MemoryRegistry, division: Division) -> None:
    def fault(request: Request, answer: Answer) -> Answer:
        answer.cut = 30_000 if request.method == "GET" else None
        return answer

    registry.fault = fault
    async with serving(registry) as server:
        await fetch(store, server, policy(division=division))
        assert stored(store)
        fetched = sum(min(last + 1 - first, 30_000) for first, last in filter(None, asked(server)))
        assert fetched < 1.2 * len(DATA)


async def test_a_silent_server_is_asked_again_from_where_it_stopped(store: Store, registry: MemoryRegistry) -> None:
    silences = [10]

    def fault(request: Request, answer: Answer) -> Answer:
        answer.stall = silences.pop() if silences and request.method == "GET" else None
        return answer

    registry.fault = fault
    async with serving(registry) as server:
        await fetch(store, server, policy(division=ONE, stall=2.0))
        assert stored(store)
        assert asked(server) == [(0, 399_999), (10, 399_999)]


@pytest.mark.parametrize("division", [ONE, MANY])
async def test_ranges_are_ignored(store: Store, registry: MemoryRegistry, division: Division) -> None:
    sent = 0

    def fault(request: Request, answer: Answer) -> Answer:
        nonlocal sent
        sent += request.method == "GET"
        return Answer(body=DATA, cut=150_000 if sent == 2 and request.method == "GET" else None)

    registry.fault = fault
    async with serving(registry) as server:
        await fetch(store, server, policy(division=division))
        assert stored(store)
        assert len(asked(server)) <= 2 + division.count


async def test_ranges_are_ignored_when_it_goes_on(store: Store, registry: MemoryRegistry) -> None:
    registry.fault = lambda request, answer: Answer(body=DATA, cut=100_000 if len(asked(server)) == 1 else None)
    async with serving(registry) as server:
        await fetch(store, server, policy(division=ONE))
        assert stored(store)


async def test_a_size_that_cannot_be(store: Store, registry: MemoryRegistry) -> None:
    registry.fault = lambda _, answer: Answer(headers={"content-length": "100000000000000000"})
    async with serving(registry) as server:
        with pytest.raises(DiskFull):
            await fetch(store, server, policy())
        assert asked(server) == []


@pytest.mark.parametrize(
    "header", ["bytes 1-399999/400000", "bytes 0-1", "chunks 0-399999/400000", "", "bytes 99999999999999999999-1/2"]
)
async def test_lies_about_ranges(store: Store, registry: MemoryRegistry, header: str) -> None:
    def fault(request: Request, answer: Answer) -> Answer:
        return Answer(206, DATA, {"content-range": header}) if request.method == "GET" else answer

    registry.fault = fault
    async with serving(registry) as server:
        with pytest.raises(RetriesExceeded, match="max retries exceeded: the registry sent another range"):
            await fetch(store, server, policy(division=ONE))
        assert len(asked(server)) == 6
    assert not store.has_blob(DIGEST)


async def test_more_than_was_asked_for(store: Store, registry: MemoryRegistry) -> None:
    def fault(request: Request, answer: Answer) -> Answer:
        if request.method == "GET" and request.range:
            answer.body = DATA[request.range[0] :] + bytes(100_000)
        return answer

    registry.fault = fault
    async with serving(registry) as server:
        await fetch(store, server, policy(division=MANY))
    assert stored(store)


async def test_less_than_was_asked_for(store: Store, registry: MemoryRegistry) -> None:
    def fault(request: Request, answer: Answer) -> Answer:
        answer.body = answer.body[:-1] if request.method == "GET" else answer.body
        return answer

    registry.fault = fault
    async with serving(registry) as server:
        with pytest.raises(RetriesExceeded, match="ended too early"):
            await fetch(store, server, policy(division=ONE))
        assert store.partial(DIGEST).kept == len(DATA) - 1


async def test_a_wrong_byte_is_never_accepted(store: Store, registry: MemoryRegistry) -> None:
    def fault(request: Request, answer: Answer) -> Answer:
        if request.method == "GET" and request.range and request.range[0] == 200_000:
            answer.body = b"?" + answer.body[1:]
        return answer

    registry.fault = fault
    async with serving(registry) as server:
        with pytest.raises(CorruptDownload, match=f"want {DIGEST}, got sha256:"):
            await fetch(store, server, policy(division=MANY))
        assert os.listdir(store.blob_path(DIGEST).parent) == []
        registry.fault = lambda _, answer: answer
        await fetch(store, server, policy(division=MANY))
    assert stored(store)


@pytest.mark.parametrize("status", [500, 503, 429])
async def test_a_registry_that_is_busy(store: Store, registry: MemoryRegistry, status: int) -> None:
    busy = [status] * 5

    def fault(request: Request, answer: Answer) -> Answer:
        return Answer(busy.pop()) if busy and request.method == "GET" else answer

    registry.fault = fault
    async with serving(registry) as server:
        await fetch(store, server, policy(division=ONE))
    assert stored(store)


@pytest.mark.parametrize(("status", "error"), [(404, NotFound), (403, BadStatus), (400, BadStatus), (416, BadStatus)])
async def test_a_registry_that_refuses(
    store: Store, registry: MemoryRegistry, status: int, error: type[RegistryError]
) -> None:
    def fault(request: Request, answer: Answer) -> Answer:
        return Answer(status, b"why") if request.method == "GET" else answer

    registry.fault = fault
    async with serving(registry) as server:
        with pytest.raises(error):
            await fetch(store, server, policy(division=ONE))
        assert len(asked(server)) == 1


async def test_a_registry_that_sends_us_elsewhere(store: Store, registry: MemoryRegistry) -> None:
    """The registry is asked once, and again when the address has expired."""
    signatures = ["first"]

    def storage(request: Request) -> Answer:
        return registry(request) if request.query == [("sign", signatures[-1])] else Answer(403)

    async with serving(storage) as elsewhere:
        location = f"http://localhost:{elsewhere.host.rpartition(':')[2]}"

        def home(request: Request) -> Answer:
            if request.method == "HEAD":
                return registry(request)
            if len(server.requests) == 3:
                signatures.append("second")
            return Answer(307, headers={"location": f"{location}{request.path}?sign={signatures[-1]}"})

        def expire(request: Request, answer: Answer) -> Answer:
            if request.range == (200_000, 299_999) and signatures[-1] == "first":
                signatures.append("expired")
                return Answer(403)
            return answer

        registry.fault = expire
        async with serving(home) as server:
            await fetch(store, server, policy(division=MANY, parallel=1))
            assert stored(store)
            assert [request.method for request in server.requests] == ["HEAD", "GET", "GET"]
            assert len(elsewhere.requests) == 5


async def test_stopped_and_resumed(store: Store, registry: MemoryRegistry) -> None:
    registry.fault = lambda request, answer: Answer(
        answer.status, answer.body, answer.headers, stall=50_000 if request.method == "GET" else None
    )
    async with serving(registry) as server:
        task = asyncio.create_task(fetch(store, server, policy(division=MANY)))
        await until(lambda: len(asked(server)) == 4)
        await asyncio.sleep(0.3)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        assert store.partial(DIGEST).kept == 200_000
        server.requests.clear()
        registry.fault = lambda _, answer: answer
        await fetch(store, server, policy(division=MANY))
        assert stored(store)
        assert sorted(place for place in asked(server) if place) == [
            (start + 50_000, start + 99_999) for start in range(0, 400_000, 100_000)
        ]
        assert asked(server, "HEAD") == []


async def test_a_full_disk(store: Store, registry: MemoryRegistry) -> None:
    async with serving(registry) as server:
        partial = store.partial(DIGEST)
        partial.open(len(DATA), ONE)  # a sparse file takes no room yet
        partial.close()
        with largest_file(250_000), pytest.raises(StoreError, match="cannot write a blob: File too large"):
            await fetch(store, server, policy(division=ONE))
        assert store.partial(DIGEST).kept == 250_000
        await fetch(store, server, policy(division=ONE))
    assert stored(store)
