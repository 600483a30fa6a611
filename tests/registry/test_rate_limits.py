"""Registries that ask for patience: each request is refused once, and its second try comes when it is welcome."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from registry.bundled import MODELS
from registry.names import ModelName
from registry.progress import Step
from registry.remote.auth import Authority
from registry.remote.download import Policy
from registry.remote.huggingface import HuggingFace
from registry.remote.pull import ManifestUnavailable, Pulls
from registry.remote.push import push
from registry.remote.retries import Retries
from registry.storage.store import Store
from tests.registry.pulling import collect, policy, statuses, until
from tests.registry.servers.http import Answer, Handler, Request, serving
from tests.registry.servers.hub import Hub
from tests.registry.servers.registry import MemoryRegistry
from tests.registry.servers.token import Gate
from tests.registry.servers.uploads import RedirectingRegistry
from tests.registry.stores import add_model, name, names

DATA = bytes(range(256)) * 40
WAIT = "registry is busy ({}), trying again in 120s"


@dataclass
class Limited:
    """Refuses the first request for each thing."""

    behind: Handler
    status: int = 429
    headers: dict[str, str] = field(default_factory=lambda: {"retry-after": "120"})
    seen: set[tuple[str, str]] = field(default_factory=set)

    def __call__(self, request: Request) -> Answer | Awaitable[Answer]:
        key = (request.method, request.path)
        if key not in self.seen:
            self.seen.add(key)
            return Answer(self.status, b"slow down", self.headers)
        return self.behind(request)


class Clock:
    """Notes how long is waited, and lets it pass quickly."""

    def __init__(self) -> None:
        self.pauses: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        await asyncio.sleep(0.15)

    @property
    def policy(self) -> Policy:
        return replace(policy(), retries=Retries(sleep=self.sleep))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "models")


@pytest.fixture
def clock() -> Clock:
    return Clock()


async def fetch(store: Store, clock: Clock, host: str, keys: Path) -> list[Step]:
    return await collect(Pulls(store, keys, clock.policy).pull(ModelName.parse(f"{host}/lib/m"), insecure=True))


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
async def test_pulls_wait_for_manifests_tokens_and_blobs(
    store: Store, clock: Clock, tmp_path: Path, status: int
) -> None:
    registry = MemoryRegistry()
    registry.add("lib/m:latest", DATA)
    limited = Limited(Gate(registry), status)
    async with serving(limited) as server:
        steps = await fetch(store, clock, server.host, tmp_path / "keys")
        assert names(store) == [f"{server.host}/lib/m:latest"]
    assert {path.split("/")[-2] for _, path in limited.seen if "/v2/" in path} == {"manifests", "blobs"}
    assert ("GET", "/token") in limited.seen
    assert set(clock.pauses) == {120}
    assert WAIT.format(status) in statuses(steps)
    assert all(set(step) == {"status"} for step in steps if "busy" in step["status"])
    first = next(number for number, step in enumerate(steps) if "busy" in step["status"])
    assert steps[first - 1] == {"status": "pulling manifest"}


async def test_pushes_wait(store: Store, clock: Clock, tmp_path: Path) -> None:
    registry = RedirectingRegistry()
    limited = Limited(registry, 503)
    async with serving(limited) as server, serving(Limited(registry.storage)) as elsewhere:
        registry.elsewhere = elsewhere.host
        model = f"{server.host}/lib/m"
        add_model(store, model, DATA)
        steps = await collect(push(store, name(model), Authority(tmp_path / "keys"), clock.policy, insecure=True))
    assert steps[-1] == {"status": "success"}
    assert {method for method, _ in limited.seen} >= {"HEAD", "POST", "PATCH", "PUT"}
    assert set(clock.pauses) == {120}
    assert {WAIT.format(429), WAIT.format(503)} <= set(statuses(steps))


async def test_patience_ends(store: Store, clock: Clock, tmp_path: Path) -> None:
    refusal = Answer(429, b"slow down", {"retry-after": "600"})
    async with serving(lambda _: refusal) as server:
        with pytest.raises(ManifestUnavailable, match=r"429: slow down \(it asks to be left alone for 600 seconds\)"):
            await fetch(store, clock, server.host, tmp_path)
        assert len(server.requests) == 2
    assert clock.pauses == [600]


async def test_what_is_refused_for_good_is_not_asked_for_again(store: Store, clock: Clock, tmp_path: Path) -> None:
    async with serving(lambda _: Answer(403, b"no", {"retry-after": "1"})) as server:
        with pytest.raises(ManifestUnavailable, match="pull model manifest: 403: no"):
            await fetch(store, clock, server.host, tmp_path)
        assert len(server.requests) == 1


async def test_whoever_leaves_while_it_waits(store: Store, tmp_path: Path) -> None:
    """With the real clock: the pull has ended long before the registry would have been asked again."""
    async with serving(lambda _: Answer(429, headers={"retry-after": "300"})) as server:
        pulls = Pulls(store, tmp_path, policy=replace(policy(), retries=Retries()))
        steps = pulls.pull(name(f"{server.host}/lib/m"), insecure=True)
        assert await anext(steps) == {"status": "pulling manifest"}
        assert await anext(steps) == {"status": "registry is busy (429), trying again in 300s"}
        async with asyncio.timeout(30):
            await steps.aclose()
        await until(lambda: len(server.requests) == 1)


async def test_the_hub_is_waited_for(store: Store, clock: Clock, tmp_path: Path) -> None:
    weights = MODELS[name("tinychat")].path.read_bytes()
    hub = Hub("user/repo", {"m-Q8_0.gguf": weights, "params": b"{}"})
    limited = Limited(hub)
    async with serving(limited) as server, serving(Limited(hub, 503)) as elsewhere:
        hub.elsewhere = elsewhere.host
        pulls = Pulls(
            store, tmp_path, clock.policy, hub=HuggingFace(endpoint=f"http://{server.host}", token="", mirrored=True)
        )
        steps = await collect(pulls.pull(name("hf.co/user/repo:Q8_0"), insecure=True))
    assert steps[-1] == {"status": "success"}
    assert set(clock.pauses) == {120}
    assert {WAIT.format(429), WAIT.format(503)} <= set(statuses(steps))
