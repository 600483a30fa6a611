"""The guard in front of the application, as a client sees it."""

import re
from typing import Any

import httpx
import pytest

from server.app import create_app
from server.env import Address
from server.settings import Settings
from tests.server.fake_engine import FakeEngine

EVIL = {"Origin": "http://evil.example"}
PAGE = {"Origin": "http://localhost:3000"}


@pytest.mark.parametrize("method", ["GET", "POST", "PATCH"])
@pytest.mark.parametrize("path", ["/api/nope", "/v1/nope", "/redoc", "/docs/a/b"])
async def test_unknown_path(client: httpx.AsyncClient, method: str, path: str) -> None:
    answer = await client.request(method, path)
    assert (answer.status_code, answer.text) == (404, "404 page not found")
    assert answer.headers["content-type"] == "text/plain"
    assert "allow" not in answer.headers


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/chat", {"error": "invalid Host header"}),
        ("/v1/chat/completions", {"error": {"message": "invalid Host header", "type": "invalid_request_error"}}),
        ("/v1/messages", {"type": "error", "error": {"message": "invalid Host header"}}),
    ],
)
async def test_a_wrong_host_is_told_in_the_shape_of_the_path(
    client: httpx.AsyncClient, path: str, body: dict[str, Any]
) -> None:
    answer = await client.post(path, headers={"Host": "a b"}, json={})
    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/json; charset=utf-8"
    found = answer.json()
    assert found == body if isinstance(body["error"], str) else found["error"].items() >= body["error"].items()
    assert found.get("type") == body.get("type")


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("GET", "/api/chat", "POST"),
        ("POST", "/api/tags", "HEAD, GET"),
        ("POST", "/api/delete", "DELETE"),
        ("GET", "/api/blobs/x", "HEAD, POST"),
        ("HEAD", "/api/ps", "GET"),
        ("PATCH", "/", "HEAD, GET"),
    ],
)
async def test_wrong_method(client: httpx.AsyncClient, method: str, path: str, allow: str) -> None:
    answer = await client.request(method, path)
    assert answer.status_code == 405
    assert answer.headers["content-type"] == "text/plain"
    assert answer.headers["allow"] == allow
    assert method == "HEAD" or answer.text == "405 method not allowed"


async def test_trailing_slash(client: httpx.AsyncClient) -> None:
    answer = await client.get("/api/tags/", headers=EVIL)
    assert (answer.status_code, answer.headers["location"]) == (301, "/api/tags")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.text == '<a href="/api/tags">Moved Permanently</a>.\n\n'
    answer = await client.post("/api/show/", content=b"{}")
    assert (answer.status_code, answer.headers["location"], answer.content) == (307, "/api/show", b"")
    assert "content-type" not in answer.headers


@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS", "DELETE"])
@pytest.mark.parametrize("path", ["/api/tags", "/api/nope"])
async def test_a_foreign_origin_is_blocked(client: httpx.AsyncClient, method: str, path: str) -> None:
    answer = await client.request(method, path, headers=EVIL)
    assert (answer.status_code, answer.content) == (403, b"")
    assert "content-type" not in answer.headers
    assert ("allow" in answer.headers) == (path == "/api/tags" and method != "GET")


async def test_an_allowed_origin_is_named(client: httpx.AsyncClient) -> None:
    for path in ("/api/version", "/api/nope", "/api/chat"):
        answer = await client.get(path, headers=PAGE)
        assert answer.headers["access-control-allow-origin"] == PAGE["Origin"]
        assert answer.headers["vary"] == "Origin"


@pytest.mark.parametrize(("path", "allow"), [("/api/chat", "POST"), ("/api/nope", None)])
async def test_preflight(client: httpx.AsyncClient, path: str, allow: str | None) -> None:
    answer = await client.options(path, headers=PAGE)
    assert (answer.status_code, answer.content) == (204, b"")
    assert answer.headers["access-control-max-age"] == "43200"
    assert answer.headers.get("allow") == allow
    assert "content-type" not in answer.headers
    assert "content-length" not in answer.headers


async def test_a_foreign_host_is_blocked(client: httpx.AsyncClient) -> None:
    answer = await client.get("/api/version", headers={"Host": "evil.example"})
    assert (answer.status_code, answer.content) == (403, b"")
    answer = await client.get("/api/version", headers={"Host": "foo.localhost:1"})
    assert answer.status_code == 200


async def test_options_is_answered_for_names_only(client: httpx.AsyncClient) -> None:
    by_name = await client.options("/api/chat", headers={"Host": "localhost"})
    assert (by_name.status_code, by_name.headers["allow"]) == (204, "POST")
    by_address = await client.options("/api/chat", headers={"Host": "127.0.0.1"})
    assert (by_address.status_code, by_address.headers["allow"]) == (405, "POST")


async def ask(settings: Settings, host: str, **headers: str) -> int:
    engine = FakeEngine(settings.models)
    app = create_app(settings, engine, engine.models)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://x") as client:
        answer = await client.get("/api/version", headers={"Host": host, **headers})
        assert answer.content or answer.status_code == 403
        return answer.status_code


@pytest.mark.parametrize("host", ["localhost:80@evil.example", "localhost:1x", "localhost:65536", "a b", "[::1", "%6c"])
@pytest.mark.parametrize("bind", ["127.0.0.1", "0.0.0.0"])
async def test_what_is_no_host(settings: Settings, bind: str, host: str) -> None:
    assert await ask(Settings(models=settings.models, address=Address(bind)), host) == 400


async def test_a_browser_on_a_public_bind(settings: Settings, caplog: pytest.LogCaptureFixture) -> None:
    public = Settings(models=settings.models, address=Address("0.0.0.0"))
    assert await ask(public, "evil.example") == 200
    assert await ask(public, "evil.example:80", Origin="http://evil.example:80") == 403
    assert await ask(public, "evil.example", **{"Sec-Fetch-Site": "same-origin"}) == 403
    assert "OLLAMA_ALLOWED_HOSTS" in caplog.text
    for host in ("8.8.8.8", "[2001:db8::1]:1", "gpu-box:11434", "gpu.lan", "gpu.local", "localhost"):
        assert await ask(public, host, Origin=f"http://{host}") == 200


async def test_hosts_that_are_named(settings: Settings) -> None:
    page = {"Origin": "https://pronk.example"}
    named = Settings(models=settings.models, address=Address("0.0.0.0"), allowed_hosts=("pronk.example",))
    assert await ask(named, "evil.example") == 200
    assert await ask(named, "evil.example", Origin="http://evil.example") == 403
    assert await ask(named, "pronk.example", **page) == 200
    trusted = Settings(models=settings.models, address=Address("0.0.0.0"), origins=("https://pronk.example",))
    assert await ask(trusted, "pronk.example", **page) == 200
    on_loopback = Settings(models=settings.models, allowed_hosts=("pronk.example",))
    assert await ask(on_loopback, "pronk.example") == 200
    assert await ask(on_loopback, "evil.example") == 403


async def test_several_origins_are_none(client: httpx.AsyncClient) -> None:
    several = [("Origin", "http://localhost"), ("Origin", "http://evil.example")]
    assert (await client.get("/api/version", headers=several)).status_code == 403


async def test_every_answer_has_a_request_id(client: httpx.AsyncClient, caplog: pytest.LogCaptureFixture) -> None:
    ids = []
    for method, path in (("GET", "/api/tags"), ("GET", "/nope"), ("PUT", "/api/tags"), ("GET", "/api/tags/")):
        ids.append((await client.request(method, path)).headers["x-request-id"])
    ids.append((await client.get("/api/tags", headers=EVIL)).headers["x-request-id"])
    assert len({*ids}) == len(ids)
    assert all(re.fullmatch("[0-9a-f]{16}", request_id) for request_id in ids)


@pytest.mark.parametrize("sent", ["abc-1.2:3_X", "x" * 64])
async def test_a_clean_request_id_is_kept(client: httpx.AsyncClient, sent: str) -> None:
    assert (await client.get("/api/tags", headers={"X-Request-Id": sent})).headers["x-request-id"] == sent


@pytest.mark.parametrize("sent", ["", "x" * 65, "a b", 'a"b', "-a", "a,b", "\xe9"])
async def test_another_request_id_is_replaced(client: httpx.AsyncClient, sent: str) -> None:
    answer = await client.get("/api/tags", headers=[("X-Request-Id", sent.encode("latin-1"))])
    assert re.fullmatch("[0-9a-f]{16}", answer.headers["x-request-id"])


async def test_a_defect_has_a_request_id_too(
    client: httpx.AsyncClient, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "running", lambda: 1 // 0)
    answer = await client.get("/api/ps", headers={"X-Request-Id": "mine"})
    assert (answer.status_code, answer.headers.get_list("x-request-id")) == (500, ["mine"])
