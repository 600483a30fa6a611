"""There is no cloud."""

import httpx
import pytest


@pytest.mark.parametrize(
    ("method", "path", "status", "body"),
    [
        ("POST", "/api/me", 401, {"error": "unauthorized"}),
        ("POST", "/api/signout", 401, {"error": "you are not currently signed in"}),
        ("DELETE", "/api/user/keys/abc", 401, {"error": "you are not currently signed in"}),
        ("GET", "/api/experimental/model-recommendations", 200, {"recommendations": []}),
    ],
)
async def test_accounts(client: httpx.AsyncClient, method: str, path: str, status: int, body: object) -> None:
    answer = await client.request(method, path)
    assert (answer.status_code, answer.json()) == (status, body)


@pytest.mark.parametrize("name", ["search", "fetch"])
async def test_web(client: httpx.AsyncClient, name: str) -> None:
    path = f"/api/experimental/web_{name}"
    answer = await client.post(path)
    assert (answer.status_code, answer.json()) == (400, {"error": "missing request body"})
    answer = await client.post(path, json={"query": "x"})
    assert answer.status_code == 403
    assert answer.json() == {"error": f"ollama cloud is disabled: web {name} is unavailable"}
