"""Who is let in: every route, without a key, with a wrong one, with one of another scope, and with the right one."""

import asyncio
from pathlib import Path

import httpx
import pytest
from fastapi.routing import APIRoute

from server.app import create_app
from server.http.access import Access, Refused
from server.http.keys import SCOPES, KeyFile, KeyRing
from server.routers import _SCOPE_OF, ROUTERS, scope_of
from server.settings import Settings
from tests.server.fake_engine import FakeEngine

ROUTES = [
    (method, route.path)
    for router in ROUTERS
    for route in router.routes
    if isinstance(route, APIRoute)
    for method in sorted(route.methods)
]
SHAPES = {"/v1/messages": "authentication_error", "/v1/chat/completions": "invalid_request_error"}


@pytest.fixture
def keys(settings: Settings) -> dict[str, str]:
    """The texts of keys, by the only scope that each has."""
    file = KeyFile(settings.keys_file)
    return {scope: file.add(scope, [scope]) for scope in SCOPES}


@pytest.fixture
def client(keys: dict[str, str], client: httpx.AsyncClient) -> httpx.AsyncClient:
    return client


def test_each_path_has_a_scope() -> None:
    """None is in the table by chance: a new route is for keys that may manage until it is put there."""
    for _, path in ROUTES:
        above = [path[:end] for end in range(1, len(path) + 1) if path[end:][:1] in ("", "/")]
        assert _SCOPE_OF.keys() & set(above), path
    assert scope_of("/api/unheard/of") == "manage"


@pytest.mark.parametrize(("method", "path"), ROUTES)
async def test_every_route(client: httpx.AsyncClient, keys: dict[str, str], method: str, path: str) -> None:
    needed = scope_of(path)
    url = path.replace("{digest}", "sha256:" + "0" * 64).replace("{model:path}", "m").replace("{asset}", "x.css")

    async def ask(**headers: str) -> httpx.Response:
        return await client.request(method, url, headers=headers)

    answers = [await ask(), await ask(Authorization="Bearer nobody"), await ask(**{"X-Api-Key": "nobody"})]
    if needed is None:
        assert all(answer.status_code not in (401, 403) for answer in answers)
        return
    assert [answer.status_code for answer in answers] == [401] * 3
    assert all(answer.headers["www-authenticate"].startswith("Bearer") for answer in answers)
    for scope, text in keys.items():
        for headers in ({"Authorization": f"Bearer {text}"}, {"X-Api-Key": text}, {"Authorization": f"bearer  {text}"}):
            answer = await ask(**headers)
            refused = answer.status_code == 403 and f"has no scope {needed!r}" in answer.text
            assert refused is (scope != needed) or (method == "HEAD" and answer.status_code == 403), (
                scope,
                answer.text,
            )
            assert refused or "API key" not in answer.text, answer.text


@pytest.mark.parametrize(("path", "kind"), SHAPES.items())
async def test_the_shape_is_that_of_the_path(client: httpx.AsyncClient, path: str, kind: str) -> None:
    error = (await client.post(path, json={})).json()["error"]
    assert error["type"] == kind
    assert error["message"] == "an API key is needed, as the header `Authorization: Bearer KEY`"
    assert (await client.post("/api/chat")).json() == {"error": error["message"], "status": error["message"]}


async def test_a_browser_may_ask_whether_it_may_ask(client: httpx.AsyncClient) -> None:
    headers = {"Origin": "http://localhost:3000", "Access-Control-Request-Method": "POST"}
    assert (await client.options("/api/chat", headers=headers)).status_code == 204
    answer = await client.post("/api/chat", headers={"Origin": "http://localhost:3000"})
    assert answer.status_code == 401
    assert answer.headers["access-control-allow-origin"] == "http://localhost:3000"


async def test_without_keys_everybody_may(settings: Settings, engine: FakeEngine) -> None:
    transport = httpx.ASGITransport(app=create_app(settings, engine, engine.models))
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:11434") as client:
        assert (await client.get("/api/tags", headers={"Authorization": "Bearer anything"})).status_code == 200


def let_in(access: Access, text: str) -> int:
    try:
        with access.entered("infer", f"Bearer {text}", ""):
            return 200
    except Refused as refused:
        return refused.info.status


def test_requests_a_minute(tmp_path: Path) -> None:
    file, now = KeyFile(tmp_path / "keys.json"), [100.0]
    slow, free = file.add("slow", ["infer"], requests_per_minute=2), file.add("free", ["infer", "read"])
    access = Access(KeyRing(file.path), lambda: now[0])
    assert [let_in(access, slow) for _ in range(3)] == [200, 200, 429]
    with pytest.raises(Refused) as refused, access.entered("infer", f"Bearer {slow}", ""):
        pass
    assert dict(refused.value.headers) == {b"retry-after": b"30"}
    assert [let_in(access, free) for _ in range(9)] == [200] * 9
    now[0] += 30
    assert [let_in(access, slow), let_in(access, slow)] == [200, 429]
    now[0] += 3600
    assert [let_in(access, slow) for _ in range(3)] == [200, 200, 429]


async def test_requests_at_once(tmp_path: Path) -> None:
    file = KeyFile(tmp_path / "keys.json")
    text = file.add("two", ["infer", "read"], concurrent=2)
    access = Access(KeyRing(file.path))
    leave = asyncio.Event()

    async def run() -> None:
        with access.entered("infer", "", text):
            await leave.wait()

    tasks = [asyncio.create_task(run()) for _ in range(2)]
    await asyncio.sleep(0)
    assert let_in(access, text) == 429
    with access.entered("read", "", text) as key:  # looking is free
        assert key is not None
    leave.set()
    await asyncio.gather(*tasks)
    with access.entered("read", "", text), access.entered("read", "", text):  # and takes nobody's place
        assert let_in(access, text) == 200


def test_an_empty_bearer_beside_a_key(tmp_path: Path) -> None:
    file = KeyFile(tmp_path / "keys.json")
    text = file.add("a", ["infer"])
    with Access(KeyRing(file.path)).entered("infer", "Bearer ", text) as key:
        assert key is not None
