"""`/v1/embeddings`: what it refuses, what it asks the engine, what it answers."""

import base64
from array import array
from typing import Any

import httpx
import pytest

from engine.api import Detokenized, DetokenizeRequest, Embeddings, EmbedRequest
from engine.errors import ContextExceeded, ModelNotFound
from tests.server.fake_engine import FakeEngine
from tests.server.openai.test_models import openai

FOUND = Embeddings(vectors=[array("f", [0.1, -1.5]), array("f", [1.0, 0.25])], prompt_eval_count=7, load_duration=5)


@pytest.mark.parametrize(
    ("body", "message", "param"),
    [
        ({"model": "m"}, "invalid input", None),
        ({"model": "m", "input": None}, "invalid input", None),
        ({"model": "m", "input": []}, "invalid input", None),
        ({"model": "m", "input": 5}, "invalid input type", "input"),
        ({"model": "m", "input": [[1, -2]]}, "invalid input type", "input"),
        ({"model": "m", "input": ["a", []]}, "invalid input type", "input"),
        ({"model": "m", "input": ["a"] * 16_385}, "too many texts: 16385, at most 16384 are accepted", "input"),
        (
            {"model": "m", "input": "a", "encoding_format": "int8"},
            "Invalid value for 'encoding_format' = int8. Supported values: ['float', 'base64'].",
            "encoding_format",
        ),
        ({"model": "m", "input": "a", "dimensions": 0}, "dimensions must be at least 1", "dimensions"),
        ({"model": "m", "input": "a", "dimensions": -1}, "dimensions must be at least 1", "dimensions"),
    ],
)
async def test_refusals(
    client: httpx.AsyncClient, engine: FakeEngine, body: object, message: str, param: str | None
) -> None:
    answer = await client.post("/v1/embeddings", json=body)
    assert (answer.status_code, answer.json()) == (400, openai(message, param=param))
    assert not engine.asked


async def test_an_unknown_model(client: httpx.AsyncClient, engine: FakeEngine) -> None:
    engine.script = [ModelNotFound("zz")]
    answer = await client.post("/v1/embeddings", json={"model": "zz", "input": "a"})
    assert answer.status_code == 404
    assert answer.json() == openai('model "zz" not found, try pulling it first', "not_found_error")


async def test_more_dimensions_than_the_model_has(client: httpx.AsyncClient, engine: FakeEngine) -> None:
    engine.script = [FOUND]
    body = {"model": "m", "input": ["a", "b"], "dimensions": 2}
    assert (await client.post("/v1/embeddings", json=body)).status_code == 200
    answer = await client.post("/v1/embeddings", json=body | {"dimensions": 3})
    message = "dimensions must be at most 2, which this model has"
    assert (answer.status_code, answer.json()) == (400, openai(message, param="dimensions"))


async def test_a_text_that_may_not_be_cut(client: httpx.AsyncClient, engine: FakeEngine) -> None:
    engine.script = [ContextExceeded("the input length exceeds the context length: input[1]", limit=256)]
    answer = await client.post("/v1/embeddings", json={"model": "m", "input": ["a", "b"], "truncate": False})
    message = "the input length exceeds the context length: input[1] (at most 256 tokens)"
    error = openai(message, param="input")["error"]
    assert (answer.status_code, answer.json()["error"]) == (400, error | {"code": "context_length_exceeded"})
    assert engine.asked == [EmbedRequest(model="m", texts=["a", "b"], truncate=False)]


@pytest.mark.parametrize(("input", "texts"), [("a", ["a"]), ("", [""]), (["a", ""], ["a", ""])])
async def test_the_request(client: httpx.AsyncClient, engine: FakeEngine, input: Any, texts: list[str]) -> None:
    engine.script = [FOUND]
    body = {"model": "T", "input": input, "dimensions": 2, "options": {"num_ctx": 9}, "keep_alive": 60, "user": "me"}
    await client.post("/v1/embeddings", json=body)
    assert engine.asked == [EmbedRequest(model="T", texts=texts, dimensions=2, options={"num_ctx": 9}, keep_alive=60.0)]


@pytest.mark.parametrize(
    ("input", "texts"), [([1, 2], ["text"]), ([[1, 2], [3]], ["text", "text"]), (["a", [1]], ["a", "text"])]
)
async def test_token_ids(client: httpx.AsyncClient, engine: FakeEngine, input: Any, texts: list[str]) -> None:
    detokenized = [Detokenized(text="text")] * texts.count("text")
    engine.scripts = [*([step] for step in detokenized), [FOUND]]
    assert (await client.post("/v1/embeddings", json={"model": "T", "input": input})).status_code == 200
    *others, last = engine.asked
    assert last == EmbedRequest(model="T", texts=texts)
    assert all(isinstance(request, DetokenizeRequest) for request in others)


@pytest.mark.parametrize("encoding", [None, "float", "FLOAT", "base64", "Base64"])
async def test_the_answer(client: httpx.AsyncClient, engine: FakeEngine, encoding: str | None) -> None:
    engine.script = [FOUND]
    body = {"model": "T", "input": ["a", "b"], "encoding_format": encoding}
    answer = await client.post("/v1/embeddings", json=body)
    assert answer.headers["content-type"] == "application/json"
    assert answer.text.endswith("}\n")
    found = answer.json()
    vectors = [item.pop("embedding") for item in found["data"]]
    if encoding and encoding.lower() == "base64":
        assert [array("f", base64.b64decode(vector)) for vector in vectors] == FOUND.vectors
    else:
        assert [array("f", vector) for vector in vectors] == FOUND.vectors
    assert found == {
        "object": "list",
        "data": [{"object": "embedding", "index": 0}, {"object": "embedding", "index": 1}],
        "model": "T",
        "usage": {"prompt_tokens": 7, "total_tokens": 7},
    }
