"""The list of models: what is remembered of it, and what is seen again."""

import asyncio
import time
from pathlib import Path

import httpx
import pytest

from registry.manifest import MODEL, Layer, Manifest
from registry.names import ModelName
from registry.storage.store import Store
from tests.server.fake_engine import FakeEngine


@pytest.fixture(autouse=True)
def _settled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("registry.storage.files._TICK", -(10**18))
    monkeypatch.setattr("registry.storage.files._COARSE_TICK", -(10**18))


@pytest.fixture
def store(engine: FakeEngine) -> Store:
    engine.store.find(ModelName.parse("tinychat"))
    return engine.store


async def listed(client: httpx.AsyncClient) -> list[str]:
    time.sleep(0.02)  # noqa: ASYNC251 - a tick of the file system's clock
    answer = (await client.get("/api/tags")).json()["models"]
    assert [model["id"] for model in (await client.get("/v1/models")).json()["data"]] == [
        model["name"] for model in answer
    ]
    time.sleep(0.02)  # noqa: ASYNC251
    return sorted(model["name"] for model in answer)


async def test_changes_are_seen(client: httpx.AsyncClient, store: Store) -> None:
    assert await listed(client) == ["tinychat:latest"]
    assert await listed(client) == ["tinychat:latest"]
    await client.post("/api/copy", json={"source": "tinychat", "destination": "b"})
    assert await listed(client) == ["b:latest", "tinychat:latest"]
    other = Store(store.blob_path(store.list()[0].manifest.config.digest).parents[1])
    other.copy(ModelName.parse("b"), ModelName.parse("c"))
    assert await listed(client) == ["b:latest", "c:latest", "tinychat:latest"]
    await client.request("DELETE", "/api/delete", json={"model": "b"})
    other.delete(ModelName.parse("tinychat"))
    assert await listed(client) == ["c:latest"]


async def test_capabilities_are_those_that_show_gives(client: httpx.AsyncClient) -> None:
    shown = (await client.post("/api/show", json={"model": "tinychat"})).json()
    [model] = (await client.get("/api/tags")).json()["models"]
    assert model["capabilities"] == sorted(shown["capabilities"]) == ["completion", "insert", "thinking", "tools"]


async def test_weights_that_go_and_come_back(client: httpx.AsyncClient, store: Store, tmp_path: Path) -> None:
    weights = store.blob_path(store.list()[0].manifest.layers[0].digest)

    async def capabilities() -> list[str]:
        await listed(client)
        [model] = (await client.get("/api/tags")).json()["models"]
        return list(model.get("capabilities", []))

    assert "completion" in await capabilities()
    weights.rename(tmp_path / "away")
    assert await capabilities() == []
    (tmp_path / "away").rename(weights)
    assert "completion" in await capabilities()


async def test_a_model_that_cannot_be_read_is_left_out(client: httpx.AsyncClient, store: Store) -> None:
    broken = store.add_blob(b"GGUF broken")
    config = store.list()[0].manifest.config
    store.write_manifest(ModelName.parse("broken"), Manifest(config, (Layer(MODEL, *broken),)))
    for _ in range(2):
        answer = (await client.get("/api/tags")).json()["models"]
        assert [model["name"] for model in answer] == ["tinychat:latest"]


async def test_many_at_once(client: httpx.AsyncClient, store: Store) -> None:
    answers = await asyncio.gather(*(client.get("/api/tags") for _ in range(30)))
    assert {answer.content for answer in answers} == {(await client.get("/api/tags")).content}
