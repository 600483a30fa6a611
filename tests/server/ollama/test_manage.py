"""Copy, delete, blobs and pull on a real store."""

import hashlib
import json
from pathlib import Path

import httpx
import pytest

from registry.storage.store import Store
from server.settings import Settings
from tests.registry.stores import add_model

REFUSED = 'pull model manifest: Get "http://127.0.0.1:1/v2/library/zz/manifests/latest": connection refused'
TWO_PLACES = 'use either :local or :cloud, not both: "a:local:cloud"'
HELLO = f"sha256:{hashlib.sha256(b'hello').hexdigest()}"


async def pull(client: httpx.AsyncClient) -> None:
    answer = await client.post("/api/pull", json={"name": "tinychat", "stream": False})
    assert answer.json() == {"status": "success"}
    assert answer.headers["content-type"] == "application/json"


def blobs(settings: Settings) -> list[Path]:
    """All files in the store that are or might become blobs."""
    return [path for path in settings.models.rglob("sha256-*") if path.is_file()]


async def names(client: httpx.AsyncClient) -> list[str]:
    return sorted(model["name"] for model in (await client.get("/api/tags")).json()["models"])


async def test_pull_of_the_bundled_model(client: httpx.AsyncClient) -> None:
    answer = await client.post("/api/pull", json={"model": "tinychat"})
    assert answer.headers["content-type"] == "application/x-ndjson"
    steps = [json.loads(line) for line in answer.text.splitlines()]
    assert [step["status"] for step in steps if "digest" not in step] == [
        "pulling manifest",
        "verifying sha256 digest",
        "writing manifest",
        "success",
    ]
    for step in steps:
        if "digest" in step:
            assert list(step) == ["status", "digest", "total", "completed"]
            assert step["status"] == f"pulling {step['digest'].removeprefix('sha256:')[:12]}"
            assert step["completed"] == step["total"] > 0
    assert await names(client) == ["tinychat:latest"]


async def test_copy_and_delete(client: httpx.AsyncClient) -> None:
    await pull(client)
    answer = await client.post("/api/copy", json={"source": "tinychat", "destination": "user/copy:1"})
    assert (answer.status_code, answer.content) == (200, b"")
    assert "content-type" not in answer.headers
    assert await names(client) == ["tinychat:latest", "user/copy:1"]
    for body in ({"model": "user/copy:1"}, {"name": " tinychat:local"}):
        answer = await client.request("DELETE", "/api/delete", json=body)
        assert (answer.status_code, answer.content) == (200, b"")
    assert await names(client) == []


async def test_a_copy_onto_itself_does_nothing(client: httpx.AsyncClient) -> None:
    assert (await client.post("/api/copy", json={"source": "zz", "destination": "zz:latest"})).status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "message"),
    [
        ("POST", "copy", {"source": "foo:", "destination": "x"}, 400, 'source "foo:" is invalid'),
        ("POST", "copy", {"destination": "x"}, 400, 'source "" is invalid'),
        ("POST", "copy", {"source": "x"}, 400, 'destination "" is invalid'),
        ("POST", "copy", {"source": "zz", "destination": "x"}, 404, 'model "zz" not found'),
        ("DELETE", "delete", {}, 400, "model is required"),
        ("DELETE", "delete", {"model": "foo:"}, 400, 'name "foo:" is invalid'),
        ("DELETE", "delete", {"model": "a:local:cloud"}, 400, TWO_PLACES),
        ("POST", "pull", {"model": "a:local:cloud"}, 400, TWO_PLACES),
        ("DELETE", "delete", {"model": "zz"}, 404, "model 'zz' not found"),
        ("POST", "pull", {}, 400, "invalid model name"),
        ("POST", "pull", {"model": "foo:"}, 400, "invalid model name"),
        ("POST", "pull", {"model": "127.0.0.1:1/library/zz", "stream": False, "insecure": True}, 500, REFUSED),
        ("POST", "push", {}, 400, "model is required"),
        ("POST", "push", {"model": "foo:"}, 400, "invalid model name"),
        ("POST", "push", {"model": "zz"}, 404, "model 'zz' not found"),
    ],
)
async def test_refusals(
    client: httpx.AsyncClient, method: str, path: str, body: object, status: int, message: str
) -> None:
    answer = await client.request(method, f"/api/{path}", json=body)
    assert (answer.status_code, answer.json()) == (status, {"error": message})


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("DELETE", "/api/delete", {"model": "x" * 50_000}),
        ("POST", "/api/copy", {"source": "x" * 50_000, "destination": "y"}),
        ("POST", "/api/chat", {"model": "m", "think": "x" * 50_000}),
        ("POST", "/api/chat", {"model": "m", "keep_alive": "x" * 50_000}),
        ("POST", "/api/chat", {"model": "m", "tool_choice": "x" * 50_000}),
        ("POST", "/api/embeddings", {"model": "x" * 50_000, "prompt": "y"}),
        ("POST", "/v1/embeddings", {"model": "m", "input": "y", "encoding_format": "x" * 50_000}),
    ],
)
async def test_an_error_repeats_only_the_beginning_of_what_was_sent(
    client: httpx.AsyncClient, method: str, path: str, body: dict[str, str]
) -> None:
    response = await client.request(method, path, json=body)
    assert response.status_code in (400, 404)
    assert len(response.content) < 5_000


async def test_blobs(client: httpx.AsyncClient, settings: Settings) -> None:
    assert (await client.head(f"/api/blobs/{HELLO}")).status_code == 404
    for status in (201, 200):
        answer = await client.post(f"/api/blobs/{HELLO}", content=b"hello")
        assert (answer.status_code, answer.content) == (status, b"")
        assert "content-type" not in answer.headers
    answer = await client.head(f"/api/blobs/{HELLO}")
    assert answer.status_code == 200
    assert "content-type" not in answer.headers


async def test_an_upload_mends_a_blob_that_has_changed(client: httpx.AsyncClient, settings: Settings) -> None:
    assert (await client.post(f"/api/blobs/{HELLO}", content=b"hello")).status_code == 201
    path = settings.models / "blobs" / HELLO.replace(":", "-")
    path.write_bytes(b"hullo")
    for body, found in ((b"other", b"hullo"), (b"", b"hullo"), (b"hello", b"hello")):
        answer = await client.post(f"/api/blobs/{HELLO}", content=body)
        assert (answer.status_code, answer.content) == (200, b"")
        assert path.read_bytes() == found
    assert blobs(settings) == [path]


@pytest.mark.parametrize("known", ["written", "named"])
async def test_a_blob_that_was_cut_is_asked_for_again(
    client: httpx.AsyncClient, settings: Settings, known: str
) -> None:
    data = bytes(3_000_000)
    large, empty = (f"sha256:{hashlib.sha256(content).hexdigest()}" for content in (data, b""))
    if known == "named":
        add_model(Store(settings.models), "large", data)
        add_model(Store(settings.models), "small", b"hello")
    for digest, whole in ((HELLO, b"hello"), (large, data), (empty, b"")):
        assert (await client.post(f"/api/blobs/{digest}", content=whole)).status_code in (200, 201)
        assert (await client.head(f"/api/blobs/{digest}")).status_code == 200
        path = settings.models / "blobs" / digest.replace(":", "-")
        for spoilt in (b"", whole[: len(whole) * 2 // 3], whole + b"x"):
            path.write_bytes(spoilt)
            if spoilt != whole:
                assert (await client.head(f"/api/blobs/{digest}")).status_code == 404
            assert (await client.post(f"/api/blobs/{digest}", content=whole)).status_code == 200
            assert (await client.head(f"/api/blobs/{digest}")).status_code == 200
            assert path.read_bytes() == whole


async def test_a_blob_may_be_larger_than_any_json(client: httpx.AsyncClient, settings: Settings) -> None:
    data = bytes(3_000_000)
    assert len(data) > settings.max_body
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    assert (await client.post(f"/api/blobs/{digest}", content=data)).status_code == 201
    assert (settings.models / "blobs" / digest.replace(":", "-")).stat().st_size == len(data)


async def test_a_blob_that_is_another(client: httpx.AsyncClient, settings: Settings) -> None:
    answer = await client.post(f"/api/blobs/{HELLO}", content=b"other")
    other = hashlib.sha256(b"other").hexdigest()
    message = f'digest mismatch, expected "{HELLO}", got "sha256:{other}"'
    assert (answer.status_code, answer.json()) == (400, {"error": message})
    assert not blobs(settings)


@pytest.mark.parametrize("method", ["HEAD", "POST"])
async def test_what_is_no_digest(client: httpx.AsyncClient, method: str) -> None:
    answer = await client.request(method, "/api/blobs/abc", content=b"x")
    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/json; charset=utf-8"
    assert method == "HEAD" or answer.json() == {"error": "invalid digest format"}


async def test_a_broken_manifest(client: httpx.AsyncClient, settings: Settings) -> None:
    manifest = settings.models / "manifests" / "registry.ollama.ai" / "library" / "tinychat" / "latest"
    await pull(client)
    for mend in ("pull", "delete"):
        manifest.write_bytes(b"")
        assert await names(client) == []
        for path in ("show", "push"):
            answer = await client.post(f"/api/{path}", json={"model": "tinychat"})
            assert answer.status_code == 500
            assert answer.json()["error"].startswith("model 'tinychat:latest' is broken, its manifest cannot be read (")
        if mend == "pull":
            await pull(client)
            assert await names(client) == ["tinychat:latest"]
        else:
            answer = await client.request("DELETE", "/api/delete", json={"model": "tinychat"})
            assert (answer.status_code, answer.content) == (200, b"")
            assert not manifest.exists()
