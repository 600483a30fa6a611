"""The OpenAPI document: it lists what is there, and the answers are as it says."""

import json
import re
from array import array
from typing import Any

import httpx
import jsonschema
import pytest
import pytest_asyncio

from engine.api import (
    Delta,
    Detokenized,
    Embeddings,
    Final,
    LoadingModel,
    Ranked,
    Rendered,
    RunningModel,
    Tokenized,
    ToolCall,
)
from server.app import create_app
from server.http.docs import router as docs
from server.routers import ROUTERS
from server.settings import Settings
from tests.server.fake_engine import FakeEngine
from tests.server.ollama.test_status import PLAN

FINAL = Final(done_reason="stop", context=[1, 2], prompt_eval_count=3, eval_count=4, eval_duration=5)
CALL = ToolCall("f", {"a": 1}, id="c")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def document(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    settings = Settings(models=tmp_path_factory.mktemp("documented") / "models")
    engine = FakeEngine(settings.models)
    transport = httpx.ASGITransport(app=create_app(settings, engine, engine.models))
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:11434") as client:
        answer = await client.get("/openapi.json")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json; charset=utf-8")
    return dict(answer.json())


async def test_all_routes_are_in_it(document: dict[str, Any]) -> None:
    routes = {
        (method.lower(), route.path_format)  # type: ignore[attr-defined]
        for router in ROUTERS
        if router is not docs
        for route in router.routes
        for method in route.methods  # type: ignore[attr-defined]
    }
    listed = {(method, path) for path, methods in document["paths"].items() for method in methods}
    doubled = {("head", path) for method, path in listed if method == "get"}  # as the GET, without a body
    assert listed == routes - doubled
    assert len(listed) > 30


async def test_nothing_of_fastapis_own_errors_is_in_it(document: dict[str, Any]) -> None:
    text = json.dumps(document)
    assert "422" not in text
    assert "HTTPValidationError" not in text
    assert '"detail"' not in text


async def test_requests_are_described(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    body = document["paths"]["/api/chat"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert body == {"$ref": "#/components/schemas/ChatBody"}
    messages = schemas["ChatBody"]["properties"]["messages"]["items"]
    assert messages == {"anyOf": [{"$ref": "#/components/schemas/MessageBody"}, {"type": "null"}]}
    assert schemas["CreateBody"]["properties"]["from"]["type"] == "string"
    assert {"type": "string", "enum": ["low", "medium", "high", "max"]} in schemas["ChatBody"]["properties"]["think"][
        "anyOf"
    ]


def check(document: dict[str, Any], answer: httpx.Response) -> None:
    """The answer has a status, a media type and a form that are documented."""
    path = answer.request.url.path.replace("/v1/models/tinychat", "/v1/models/{model}")
    responses = document["paths"][path][answer.request.method.lower()]["responses"]
    declared = responses.get(str(answer.status_code), responses["default"])
    schema = declared["content"][answer.headers["content-type"].partition(";")[0]]["schema"]
    components = document["components"]
    lines = answer.text.splitlines() if "ndjson" in answer.headers["content-type"] else [answer.text]
    for line in lines:
        jsonschema.validate(json.loads(line), {**closed(schema), "components": closed(components)})


def closed(value: Any) -> Any:
    """Schemas that allow no other keys than theirs, so that none is forgotten."""
    if isinstance(value, list):
        return [closed(item) for item in value]
    if not isinstance(value, dict):
        return value
    inner = {key: closed(item) for key, item in value.items()}
    is_object = isinstance(value.get("properties"), dict) and value.get("type") == "object"
    return {**inner, "additionalProperties": False} if is_object else inner


@pytest.mark.parametrize("path", ["version", "status", "tags", "ps", "experimental/model-recommendations"])
async def test_answers_of_ollama(
    client: httpx.AsyncClient, engine: FakeEngine, document: dict[str, Any], path: str
) -> None:
    engine.loaded = [RunningModel("tinychat:latest", "0" * 64, 10, 5, 4096, float("inf"))]
    answer = await client.get(f"/api/{path}")
    assert answer.status_code == 200
    check(document, answer)


@pytest.mark.parametrize("path", ["/v1/models", "/v1/models/tinychat", "/v1/models/nothing"])
async def test_answers_of_openai(client: httpx.AsyncClient, document: dict[str, Any], path: str) -> None:
    answer = await client.get(path)
    check(document, answer if "nothing" not in path else renamed(answer))


@pytest.mark.parametrize("path", ["/v1/models", "/v1/models/tinychat"])
async def test_answers_of_anthropic(client: httpx.AsyncClient, document: dict[str, Any], path: str) -> None:
    await client.post("/api/pull", json={"model": "tinychat"})
    answer = await client.get(path, headers={"anthropic-version": "2023-06-01"})
    assert answer.status_code == 200
    check(document, answer)


@pytest.mark.parametrize(
    "script",
    [
        [
            Delta(thinking="hm"),
            Delta("Hi"),
            Delta(tool_calls=(CALL, ToolCall("search", {"query": "x"}, id="s"))),
            FINAL,
        ],
        [RuntimeError("broken")],
    ],
)
async def test_messages(
    client: httpx.AsyncClient, engine: FakeEngine, document: dict[str, Any], script: list[Any]
) -> None:
    engine.script = list(script)
    tools = [{"type": "web_search_20250305", "name": "search", "cache_control": {"type": "ephemeral"}}]
    messages = [{"role": "user", "content": "x"}]
    body = {"model": "t", "max_tokens": 9, "messages": messages, "tools": tools}
    check(document, await client.post("/v1/messages", json=body))
    engine.script = [Rendered("prompt", token_count=2)]
    check(document, await client.post("/v1/messages/count_tokens", json=body))


def renamed(answer: httpx.Response) -> httpx.Response:
    answer.request = httpx.Request("GET", "http://127.0.0.1/v1/models/tinychat")
    return answer


async def test_show(client: httpx.AsyncClient, document: dict[str, Any]) -> None:
    answer = await client.post("/api/show", json={"model": "tinychat", "verbose": True, "system": "Hi"})
    assert answer.status_code == 200
    check(document, answer)


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    "script",
    [
        [Delta("Hi"), Delta(thinking="hm"), Delta(tool_calls=(CALL, CALL)), FINAL],
        [RuntimeError("broken")],
        [Delta("Hi"), RuntimeError("broken")],
    ],
    ids=["whole", "error", "broken off"],
)
async def test_generated(
    client: httpx.AsyncClient, engine: FakeEngine, document: dict[str, Any], stream: bool, script: list[Any]
) -> None:
    bodies = {"generate": {"prompt": "x"}, "chat": {"messages": [{"content": "x"}]}}
    for path, body in bodies.items():
        engine.script = list(script)
        answer = await client.post(f"/api/{path}", json={"model": "t", "stream": stream, **body})
        if len(script) != 2 or not stream:
            check(document, answer)
        else:
            assert json.loads(answer.text.splitlines()[-1]) == {"error": "internal server error"}


async def test_rendered(client: httpx.AsyncClient, engine: FakeEngine, document: dict[str, Any]) -> None:
    engine.script = [Rendered("prompt", 2)]
    body = {"model": "t", "messages": [{"content": "x"}], "_debug_render_only": True}
    check(document, await client.post("/api/chat", json=body))


async def test_tokens(client: httpx.AsyncClient, engine: FakeEngine, document: dict[str, Any]) -> None:
    engine.script = [Tokenized(tokens=[7], pieces=[b"x"]), Detokenized(text="x"), Rendered("p", 1, 3)]
    for prefix in ("/api/", "/"):
        for path, body in (
            ("tokenize", {"content": "x"}),
            ("tokenize", {"content": "x", "with_pieces": True, "return_token_strs": True}),
            ("detokenize", {"tokens": [7]}),
            ("render" if prefix == "/api/" else "apply-template", {"messages": [{"role": "user", "content": "x"}]}),
        ):
            answer = await client.post(prefix + path, json={"model": "tinychat", **body})
            assert answer.status_code == 200, answer.text
            check(document, answer)


async def test_plans(client: httpx.AsyncClient, engine: FakeEngine, document: dict[str, Any]) -> None:
    engine.script = [PLAN]
    check(document, await client.post("/api/plan", json={"model": "m", "options": {"num_ctx": 4096}}))
    engine.loaded = [
        RunningModel(PLAN.name, "d" * 64, 10, 10, 4096, 1e9, devices=PLAN.devices, others=((PLAN.name, "e" * 64),))
    ]
    engine.being_loaded = [LoadingModel("x:latest", 1, 4096)]
    check(document, await client.get("/api/ps"))


async def test_rankings(client: httpx.AsyncClient, engine: FakeEngine, document: dict[str, Any]) -> None:
    engine.script = [Ranked(scores=[0.5, 1.0], cut=frozenset({1}))]
    for path in ("/api/rerank", "/rerank", "/reranking", "/v1/rerank", "/v1/reranking", "/v2/rerank"):
        for body in (
            {"query": "q", "documents": ["a", {"text": "b"}], "return_documents": True},
            {"query": "q", "texts": ["a", "b"], "return_text": True},
            {"query": "q"},
        ):
            answer = await client.post(path, json={"model": "tinychat", **body})
            assert answer.status_code == (200 if len(body) > 1 else 400), answer.text
            check(document, answer)


async def test_embeddings(client: httpx.AsyncClient, engine: FakeEngine, document: dict[str, Any]) -> None:
    for path, body in (
        ("/api/embed", {"input": ["a"]}),
        ("/api/embeddings", {"prompt": "a"}),
        ("/v1/embeddings", {"input": "a"}),
        ("/v1/embeddings", {"input": "a", "encoding_format": "base64"}),
    ):
        engine.script = [Embeddings(vectors=[array("f", [0.5, 1.0])], prompt_eval_count=1, load_duration=2)]
        answer = await client.post(path, json={"model": "tinychat", **body})
        assert answer.status_code == 200, answer.text
        check(document, answer)


async def test_create(client: httpx.AsyncClient, document: dict[str, Any]) -> None:
    check(document, await client.post("/api/create", json={"model": "x", "from": "tinychat", "system": "Hi"}))
    check(document, await client.post("/api/create", json={"model": "x", "from": "nothing here"}))


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/api/me"),
        ("POST", "/api/signout"),
        ("POST", "/api/experimental/web_search"),
        ("POST", "/v1/completions"),
        ("POST", "/v1/messages"),
        ("POST", "/v1/audio/transcriptions"),
    ],
)
async def test_refusals(client: httpx.AsyncClient, document: dict[str, Any], method: str, path: str) -> None:
    answer = await client.request(method, path, json={})
    assert answer.status_code >= 400
    check(document, answer)


async def test_the_page_needs_nothing_from_elsewhere(client: httpx.AsyncClient) -> None:
    page = await client.get("/docs")
    assert page.status_code == 200
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "http://" not in page.text
    assert "https://" not in page.text
    files = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert len(files) == 3
    for name in files:
        answer = await client.get(f"/{name}")
        assert answer.status_code == 200
        assert len(answer.content) > 1000
    assert (await client.get("/docs/swagger-ui.css")).headers["content-type"] == "text/css"


@pytest.mark.parametrize("name", ["index.html", "..%2f__init__.py", "redoc.standalone.js"])
async def test_other_files_are_not_given(client: httpx.AsyncClient, name: str) -> None:
    assert (await client.get(f"/docs/{name}")).status_code == 404
