"""What the rerank routes check, what the engine gets, and how each kind of client gets its answer."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from engine.api import Ranked, RerankRequest, RunningModel
from engine.errors import CapabilityMissing, ContextExceeded
from registry.storage.store import Store
from server.rerank.schemas import MAX_DOCUMENTS
from tests.engine.berts import bert_reranker
from tests.engine.test_engine import store_model
from tests.server.fake_engine import FakeEngine
from tests.serving import LOOPBACK, Served, serving

PATHS = ["/api/rerank", "/rerank", "/reranking", "/v1/rerank", "/v1/reranking", "/v2/rerank"]
BODY: dict[str, Any] = {"model": "T", "query": "q", "documents": ["a", {"text": "b"}, "c", "a"]}
RANKED = Ranked(scores=[0.5, -1.0, 30.0, 0.5], cut=frozenset({1}), prompt_eval_count=9, load_duration=7)


def message(answer: httpx.Response) -> str:
    """The text of an error, which each dialect has in a place of its own."""
    path, body = answer.request.url.path, answer.json()
    if path.startswith("/v1/"):
        assert set(body) == {"error"}
        assert body["error"]["type"] in ("invalid_request_error", "not_found_error")
        return str(body["error"]["message"])
    (text,) = body.values()
    assert body == {"message" if path.startswith("/v2/") else "error": text}
    return str(text)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"query": None}, "query is required"),
        ({"query": 5}, "json: cannot unmarshal number into Go struct field RerankRequest.query of type string"),
        ({"documents": None}, "documents must be a list of at least one text"),
        ({"documents": []}, "documents must be a list of at least one text"),
        ({"documents": "a"}, "documents must be a list"),
        ({"documents": ["a", 5]}, 'documents[1] must be a text or an object with "text"'),
        ({"documents": ["a", {"title": "b"}]}, 'documents[1] must be a text or an object with "text"'),
        (
            {"documents": ["a"] * (MAX_DOCUMENTS + 1)},
            f"too many documents: {MAX_DOCUMENTS + 1}, at most {MAX_DOCUMENTS} are accepted",
        ),
        ({"texts": ["a"]}, "documents and texts cannot be used together"),
        ({"top_n": 0}, "top_n must be at least 1"),
        ({"max_tokens_per_doc": -1}, "max_tokens_per_doc must be at least 1"),
    ],
)
async def test_refusals(
    client: httpx.AsyncClient, engine: FakeEngine, path: str, change: dict[str, Any], expected: str
) -> None:
    answer = await client.post(path, json=BODY | change)
    assert answer.status_code == 400
    assert message(answer) == expected
    assert not engine.asked


@pytest.mark.parametrize("path", PATHS)
async def test_what_the_engine_gets(client: httpx.AsyncClient, engine: FakeEngine, path: str) -> None:
    engine.script = [RANKED]
    more = {"options": {"num_ctx": 64}, "keep_alive": "1m", "truncate": False, "max_tokens_per_doc": 8, "top_n": 99}
    answer = await client.post(path, json=BODY | more)
    assert answer.status_code == 200
    assert engine.asked == [
        RerankRequest(
            model="T",
            query="q",
            documents=["a", "b", "c", "a"],
            options={"num_ctx": 64},
            keep_alive=60.0,
            truncate=False,
            document_limit=8,
        )
    ]
    assert len(answer.json()["results"]) == 4


@pytest.mark.parametrize("path", PATHS)
async def test_without_a_name_the_loaded_model_is_meant_where_clients_have_one_server_for_one_model(
    client: httpx.AsyncClient, engine: FakeEngine, path: str
) -> None:
    engine.script = [RANKED]
    engine.loaded = [RunningModel("registry.ollama.ai/library/one:latest", "0" * 64, 1, 1, 1, 0.0)]
    answer = await client.post(path, json=BODY | {"model": ""})
    if path in ("/api/rerank", "/v2/rerank"):
        assert (answer.status_code, message(answer)) == (400, "model is required")
        return
    assert answer.json()["model"] == "one:latest"
    engine.loaded = []
    answer = await client.post(path, json=BODY | {"model": ""})
    assert (answer.status_code, message(answer)) == (400, "model is required: no models are loaded")


SIGMOID = [0.622459331, 0.268941421, 1.0, 0.622459331]


@pytest.mark.parametrize("path", PATHS)
async def test_the_best_come_first(client: httpx.AsyncClient, engine: FakeEngine, path: str) -> None:
    engine.script = [RANKED]
    answer = (await client.post(path, json=BODY | {"return_documents": True})).json()
    assert answer["results"] == [
        {"index": 2, "relevance_score": pytest.approx(1.0), "document": {"text": "c"}},
        {"index": 0, "relevance_score": pytest.approx(SIGMOID[0]), "document": {"text": "a"}},
        {"index": 3, "relevance_score": pytest.approx(SIGMOID[3]), "document": {"text": "a"}},
        {"index": 1, "relevance_score": pytest.approx(SIGMOID[1]), "document": {"text": "b"}, "truncated": True},
    ]
    best = (await client.post(path, json=BODY | {"top_n": 2, "raw_scores": True})).json()
    assert best["results"] == [{"index": 2, "relevance_score": 30.0}, {"index": 0, "relevance_score": 0.5}]
    assert (best["model"], best["object"]) == ("T", "list")
    assert best["usage"] == {"prompt_tokens": 9, "total_tokens": 9}


async def test_what_is_beside_the_results(client: httpx.AsyncClient, engine: FakeEngine) -> None:
    engine.script = [RANKED]
    own = (await client.post("/api/rerank", json=BODY)).json()
    assert own.pop("total_duration") > 0
    assert (own["load_duration"], own["prompt_eval_count"]) == (7, 9)
    assert not {"id", "meta"} & set(own)
    cohere = (await client.post("/v2/rerank", json=BODY)).json()
    assert cohere["id"] != (await client.post("/v2/rerank", json=BODY)).json()["id"]
    meta = cohere["meta"]
    assert meta["api_version"] == {"version": "2"}
    assert meta["tokens"] == {"input_tokens": 9, "output_tokens": 0}
    (warning,) = meta["warnings"]
    assert warning.startswith("1 of the documents did not fit")
    engine.script = [Ranked(scores=[1.0])]
    assert "warnings" not in (await client.post("/v2/rerank", json=BODY | {"documents": ["a"]})).json()["meta"]


@pytest.mark.parametrize("path", ["/rerank", "/reranking", "/v1/rerank", "/v1/reranking"])
async def test_who_sends_texts_gets_a_list(client: httpx.AsyncClient, engine: FakeEngine, path: str) -> None:
    engine.script = [RANKED]
    body = {"model": "T", "query": "q", "texts": ["a", "b", "c", "d"]}
    answer = (await client.post(path, json=body)).json()
    assert answer == [{"index": i, "score": pytest.approx(SIGMOID[i])} for i in (2, 0, 3, 1)]
    answer = (await client.post(path, json=body | {"return_text": True, "raw_scores": True, "top_n": 1})).json()
    assert answer == [{"index": 2, "score": 30.0, "text": "c"}]


@pytest.mark.parametrize("logit", [-1000.0, -30.0, 0.0, 30.0, 1000.0])
async def test_scores_are_from_0_to_1(client: httpx.AsyncClient, engine: FakeEngine, logit: float) -> None:
    engine.script = [Ranked(scores=[logit])]
    body = BODY | {"documents": ["a"]}
    (result,) = (await client.post("/v1/rerank", json=body)).json()["results"]
    assert result["relevance_score"] == pytest.approx(1 / (1 + math.exp(min(-logit, 700))), abs=1e-12)
    engine.script = [Ranked(scores=[0.25], probabilities=True)]
    (result,) = (await client.post("/v1/rerank", json=body)).json()["results"]
    assert result["relevance_score"] == 0.25


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("error", [CapabilityMissing('"T" does not support rerank'), ContextExceeded("too long")])
async def test_what_the_engine_refuses(
    client: httpx.AsyncClient, engine: FakeEngine, path: str, error: Exception
) -> None:
    engine.script = [error]
    answer = await client.post(path, json=BODY)
    assert (answer.status_code, message(answer)) == (400, str(error))


@pytest.fixture(scope="module")
def reranker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder: Path = tmp_path_factory.mktemp("reranker")
    store_model(Store(folder / "models"), "ranker", bert_reranker(folder / "bert.gguf").read_bytes())
    with serving(folder / "models") as served:
        yield served


DOCUMENTS = ["the dog", "seven wizards tell a story", "日本 naïve 🦙", "", "the dog"]


def ask(server: Served, path: str, **body: Any) -> httpx.Response:
    return httpx.post(f"{server.url}{path}", json={"model": "ranker", **body}, **LOOPBACK, timeout=60)


def test_a_real_model_ranks_for_all_clients_alike(reranker: Served) -> None:
    answers = [ask(reranker, path, query="a story", documents=DOCUMENTS) for path in PATHS]
    assert {answer.status_code for answer in answers} == {200}
    scores = answers[0].json()["results"]
    assert [result["relevance_score"] for result in scores] == sorted(
        (result["relevance_score"] for result in scores), reverse=True
    )
    assert sorted(result["index"] for result in scores) == list(range(5))
    for answer in answers:
        assert answer.json()["results"] == scores
    alike = {result["relevance_score"] for result in scores if result["index"] in (0, 4)}
    assert len(alike) == 1
    listed = ask(reranker, "/rerank", model="", query="a story", texts=DOCUMENTS).json()
    assert [entry["score"] for entry in listed] == [result["relevance_score"] for result in scores]


def test_a_real_model_says_what_it_can(reranker: Served) -> None:
    assert ask(reranker, "/api/show").json()["capabilities"] == ["embedding", "rerank"]
    refused = ask(reranker, "/api/chat", messages=[{"role": "user", "content": "Hi"}])
    assert (refused.status_code, refused.json()) == (400, {"error": '"ranker" does not support chat'})
    refused = ask(reranker, "/api/rerank", model="tinychat", query="q", documents=["a"])
    assert (refused.status_code, refused.json()) == (400, {"error": '"tinychat" does not support rerank'})
