"""Model files that llama.cpp, or whoever reads them, does not survive: a clear error, and nothing is left over."""

from __future__ import annotations

import re

import httpx
import pytest

from registry.names import Digest
from registry.storage.store import Store
from tests.engine.test_engine import store_model
from tests.fuzz.models import WRONG
from tests.modelfile.create.models import TINYCHAT
from tests.registry.gguf.files import edited
from tests.serving import LOOPBACK, PATIENCE, Served

EPSILON = "qwen3.attention.layer_norm_rms_epsilon"


def post(server: Served, path: str, **body: object) -> httpx.Response:
    return httpx.post(f"{server.url}{path}", json=body, **LOOPBACK, timeout=PATIENCE)


def create(server: Served, name: str, file: bytes) -> httpx.Response:
    """Upload a file and make a model of it."""
    digest = str(Digest.of(file))
    httpx.post(f"{server.url}/api/blobs/{digest}", content=file, **LOOPBACK).raise_for_status()
    return post(server, "/api/create", model=name, files={"m.gguf": digest}, stream=False)


def loaded(server: Served) -> list[str]:
    models = httpx.get(f"{server.url}/api/ps", **LOOPBACK).json()["models"]
    return [model["name"] for model in models]


def ask(server: Served, model: str) -> httpx.Response:
    return post(server, "/api/chat", model=model, messages=[{"role": "user", "content": "Hi"}], stream=False)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("qwen3.attention.head_count", "NaN"),
        ("qwen3.attention.head_count_kv", "array of NaN"),
        ("qwen3.embedding_length", "text"),
        ("qwen3.feed_forward_length", "array of texts"),
        ("qwen3.context_length", "-1"),
        ("qwen3.block_count", "most in 63 bits"),
    ],
)
def test_a_size_that_is_none_is_refused_and_when_stored_all_the_same_told(server: Served, key: str, value: str) -> None:
    file = edited(TINYCHAT, {key: WRONG[value]})
    refusal = create(server, "wrong", file)
    assert (refusal.status_code, refusal.json()) == (400, {"error": f"{key} is no whole number"})
    store_model(Store(server.store), "stored", file)
    assert post(server, "/api/show", model="stored").status_code in (200, 500)
    assert httpx.get(f"{server.url}/api/tags", **LOOPBACK).status_code == 200
    answer = ask(server, "stored")
    assert (answer.status_code, answer.json()) == (500, {"error": f"{key} is no whole number"})
    assert post(server, "/api/embed", model="stored", input="Hi").status_code == 500
    assert "Traceback" not in server.log.read_text()


@pytest.mark.parametrize("value", ["NaN", "-1", "text", "array of texts", "most in 32 bits"])
@pytest.mark.parametrize("key", ["tokenizer.ggml.eos_token_id", "qwen3.rope.freq_base", "tokenizer.ggml.token_type"])
def test_what_only_the_library_reads_fails_in_words(server: Served, key: str, value: str) -> None:
    assert create(server, "odd", edited(TINYCHAT, {key: WRONG[value]})).status_code == 200
    assert post(server, "/api/show", model="odd", verbose=True).status_code == 200
    answer = ask(server, "odd")
    assert answer.status_code == 200 or "internal server error" not in answer.json()["error"]
    assert "Traceback" not in server.log.read_text()


def test_a_failed_assertion_in_the_library_costs_one_request(server: Served) -> None:
    """Its forked debuggers used to wait for each other, and to keep the dead process' socket open."""
    assert create(server, "nan", edited(TINYCHAT, {EPSILON: WRONG["NaN"]})).status_code == 200
    for _ in range(3):
        answer = ask(server, "nan")
        assert answer.status_code == 500
        told = answer.json()["error"]
        assert told.startswith("model runner has unexpectedly stopped")
        assert re.search(r": it died of SIGABRT \(Aborted\) on .+: llama\.cpp gave up: ops\.cpp:\d+: GGML_ASSERT", told)
        assert loaded(server) == []
    assert ask(server, "tinychat").status_code == 200
    assert loaded(server) == ["tinychat:latest"]
