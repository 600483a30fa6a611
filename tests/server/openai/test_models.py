"""`/v1/*` as far as it is there: the list of models, and refusals in OpenAI's and Anthropic's shapes."""

from urllib.parse import unquote

import httpx
import pytest


def openai(message: str, kind: str = "invalid_request_error", param: str | None = None) -> object:
    return {"error": {"message": message, "type": kind, "param": param, "code": None}}


@pytest.mark.parametrize(
    ("path", "body", "status", "error"),
    [
        ("completions", {}, 404, openai("model '' not found", "not_found_error")),
        ("embeddings", {"model": "m"}, 400, openai("invalid input")),
    ],
)
async def test_refusals(client: httpx.AsyncClient, path: str, body: object, status: int, error: object) -> None:
    answer = await client.post(f"/v1/{path}", json=body)
    assert (answer.status_code, answer.json()) == (status, error)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, "model is required"),
        ({"model": "m"}, "max_tokens is required and must be positive"),
        ({"model": "m", "max_tokens": 4}, "messages is required"),
    ],
)
async def test_messages_refusals(client: httpx.AsyncClient, body: object, message: str) -> None:
    answer = await client.post("/v1/messages", json=body)
    assert answer.status_code == 400
    assert answer.json()["error"] == {"type": "invalid_request_error", "message": message}


async def test_models(client: httpx.AsyncClient) -> None:
    await client.post("/api/pull", json={"model": "tinychat"})
    (model,) = (await client.get("/v1/models")).json()["data"]
    assert list(model) == ["id", "object", "created", "owned_by"]
    assert (model["id"], model["object"], model["owned_by"]) == ("tinychat:latest", "model", "library")
    answer = await client.get("/v1/models/TinyChat")
    assert answer.json() == model | {"id": "TinyChat"}
    answer = await client.get("/v1/models/zz")
    assert (answer.status_code, answer.json()) == (404, openai("model 'zz:latest' not found", "not_found_error"))


@pytest.mark.parametrize(
    ("name", "status", "error"),
    [
        ("%20tinychat", 200, None),
        ("tinychat:LOCAL", 200, None),
        ("%20", 400, openai("model is required", param="model")),
        ("tinychat:", 400, openai("invalid model name", param="model")),
        ("x:local:cloud", 400, openai('use either :local or :cloud, not both: "x:local:cloud"', param="model")),
        ("x:7b:cloud", 403, {"error": "ollama cloud is disabled: remote model details are unavailable"}),
    ],
)
async def test_a_model_by_another_spelling(client: httpx.AsyncClient, name: str, status: int, error: object) -> None:
    await client.post("/api/pull", json={"model": "tinychat"})
    answer = await client.get(f"/v1/models/{name}")
    assert answer.status_code == status
    assert answer.json() == error if error else answer.json()["owned_by"] == "library"


@pytest.mark.parametrize("name", ["hf.co/user/repo:Q4", "hf.co%2Fuser%2Frepo:Q4", "HF.co/User%2frepo:q4"])
async def test_a_name_with_slashes(client: httpx.AsyncClient, name: str) -> None:
    await client.post("/api/copy", json={"source": "tinychat", "destination": "hf.co/user/repo:Q4"})
    answer = await client.get(f"/v1/models/{name}")
    assert answer.status_code == 200
    assert answer.json()["id"] == unquote(name)
    assert answer.json()["owned_by"] == "user"


async def test_an_unknown_name_with_slashes(client: httpx.AsyncClient) -> None:
    answer = await client.get("/v1/models/user/zz")
    assert (answer.status_code, answer.json()) == (404, openai("model 'user/zz:latest' not found", "not_found_error"))
    answer = await client.post("/v1/models/user/zz")
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET")
