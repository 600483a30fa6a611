"""Prompts longer than the default context, as a client sees them: a real server, and a model trained for more."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from gguf import GGUFReader, GGUFValueType, GGUFWriter
from gguf.scripts.gguf_new_metadata import MetadataDetails, copy_with_new_metadata

from registry import bundled
from tests.serving import GREEDY, PATIENCE, Served

TRAINED = 16_384
PROMPT = "The cat sat on the mat. " * 530  # some 4,800 tokens
TOO_LONG = "The cat sat on the mat. " * 2100


@pytest.fixture(scope="module")
def client(server: Served, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A client of a server that has a model called `long`."""
    source = Path(bundled.__file__).parent / "tinychat.gguf"
    path = tmp_path_factory.mktemp("long") / "long.gguf"
    details = {"qwen3.context_length": MetadataDetails(GGUFValueType.UINT32, TRAINED)}
    copy_with_new_metadata(GGUFReader(source), GGUFWriter(path, "qwen3"), details, [])
    digest = f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"
    with httpx.Client(base_url=server.url, timeout=PATIENCE, trust_env=False) as client:
        client.post(f"/api/blobs/{digest}", content=path.read_bytes()).raise_for_status()
        client.post("/api/create", json={"model": "long", "files": {path.name: digest}}).raise_for_status()
        yield client


def generate(client: httpx.Client, prompt: str, **options: Any) -> dict[str, Any]:
    options = GREEDY | {"num_predict": 4} | options
    answer = client.post(
        "/api/generate", json={"model": "long", "prompt": prompt, "raw": True, "stream": False, "options": options}
    )
    final: dict[str, Any] = answer.raise_for_status().json()
    return final


def loaded(client: httpx.Client) -> dict[str, Any]:
    (model,) = client.get("/api/ps").json()["models"]
    return dict(model)


def test_the_context_grows_and_everybody_can_see_it(client: httpx.Client, server: Served) -> None:
    generate(client, "Hello")
    before = loaded(client)
    assert before["context_length"] == 4096
    final = generate(client, PROMPT)
    assert final["prompt_eval_count"] > 4096
    assert "prompt_truncated" not in final
    after = loaded(client)
    assert after["context_length"] == 8192
    assert after["size"] >= before["size"]
    log = server.log.read_text()
    assert log.count(" loaded model=long") == 1
    assert "context grown model=long" in log
    assert "prompt truncated" not in log
    chat = {"model": "long", "messages": [{"role": "user", "content": PROMPT}], "max_tokens": 4}
    assert client.post("/v1/chat/completions", json=chat).json()["usage"]["prompt_tokens"] > 4096


def test_a_cut_is_told_by_its_tokens(client: httpx.Client, server: Served) -> None:
    whole = generate(client, PROMPT)["prompt_eval_count"]
    final = generate(client, PROMPT, num_ctx=512)
    assert final["prompt_truncated"] == {"tokens": whole - final["prompt_eval_count"]}
    assert f"prompt truncated model=long:latest tokens={whole - final['prompt_eval_count']}" in server.log.read_text()
    assert "prompt_truncated" not in generate(client, "Hello", num_ctx=512)


@pytest.mark.parametrize(
    ("path", "words"),
    [("/v1/chat/completions", "context_length_exceeded"), ("/v1/messages", f"> {TRAINED - 1} maximum")],
)
def test_what_exceeds_the_trained_context_is_refused(client: httpx.Client, path: str, words: str) -> None:
    before = loaded(client)["context_length"]
    body = {"model": "long", "messages": [{"role": "user", "content": TOO_LONG}], "max_tokens": 4}
    answer = client.post(path, json=body)
    assert answer.status_code == 400
    assert words in answer.text
    assert loaded(client)["context_length"] == before, "it would have been in vain"


@pytest.mark.parametrize("path", ["generate", "chat"])
def test_what_may_not_be_cut_is_read_whole_or_refused(client: httpx.Client, path: str) -> None:
    def ask(*prompts: str) -> httpx.Response:
        body = {"model": "long", "truncate": False, "stream": False, "options": GREEDY | {"num_predict": 4}}
        messages = [{"role": "user", "content": prompt} for prompt in prompts]
        return client.post(f"/api/{path}", json={**body, "prompt": "\n".join(prompts), "messages": messages})

    final = ask(PROMPT, "Hello").raise_for_status().json()
    assert final["prompt_eval_count"] > 4096
    assert "prompt_truncated" not in final
    before = loaded(client)["context_length"]
    refused = ask(TOO_LONG, "Hello")
    assert refused.status_code == 400
    assert f"exceeds the available context size ({TRAINED} tokens)" in refused.json()["error"]
    assert loaded(client)["context_length"] == before, "it would have been in vain"


def test_progress_goes_on_while_the_context_grows(client: httpx.Client, server: Served) -> None:
    client.post("/api/generate", json={"model": "long", "keep_alive": 0}).raise_for_status()
    generate(client, "Hello")
    body = {"model": "long", "prompt": f"{PROMPT} {PROMPT}", "raw": True, "progress": True}
    answer = client.post("/api/generate", json={**body, "options": GREEDY | {"num_predict": 4}})
    told = [line["progress"] for line in map(json.loads, answer.text.splitlines()) if "progress" in line]
    reads = [each for each in told if each["stage"] == "prompt"]
    assert reads[-1]["completed"] == reads[-1]["total"] > 8192
    assert told[-len(reads) :] == reads, "nothing else comes between"
