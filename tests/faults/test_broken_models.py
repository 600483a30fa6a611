"""Model files that llama.cpp, or whoever reads them, does not survive: a clear error, and nothing is left over."""

from __future__ import annotations

import re
import struct

import httpx

from registry.names import Digest
from tests.modelfile.create.models import TINYCHAT
from tests.registry.gguf.files import FLOAT32, edited, uint32
from tests.serving import PATIENCE, Served

NAN = uint32(FLOAT32) + struct.pack("<f", float("nan"))
EPSILON = "qwen3.attention.layer_norm_rms_epsilon"


def post(server: Served, path: str, **body: object) -> httpx.Response:
    return httpx.post(f"{server.url}{path}", json=body, trust_env=False, timeout=PATIENCE)


def create(server: Served, name: str, file: bytes) -> httpx.Response:
    """Upload a file and make a model of it."""
    digest = str(Digest.of(file))
    httpx.post(f"{server.url}/api/blobs/{digest}", content=file, trust_env=False).raise_for_status()
    return post(server, "/api/create", model=name, files={"m.gguf": digest}, stream=False)


def loaded(server: Served) -> list[str]:
    models = httpx.get(f"{server.url}/api/ps", trust_env=False).json()["models"]
    return [model["name"] for model in models]


def ask(server: Served, model: str) -> httpx.Response:
    return post(server, "/api/chat", model=model, messages=[{"role": "user", "content": "Hi"}], stream=False)


def test_a_failed_assertion_in_the_library_costs_one_request(server: Served) -> None:
    """Its forked debuggers used to wait for each other, and to keep the dead process' socket open."""
    assert create(server, "nan", edited(TINYCHAT, {EPSILON: NAN})).status_code == 200
    for _ in range(3):
        answer = ask(server, "nan")
        assert answer.status_code == 500
        told = answer.json()["error"]
        assert told.startswith("model runner has unexpectedly stopped")
        assert re.search(r": it died of SIGABRT \(Aborted\) on .+: llama\.cpp gave up: ops\.cpp:\d+: GGML_ASSERT", told)
        assert loaded(server) == []
    assert ask(server, "tinychat").status_code == 200
    assert loaded(server) == ["tinychat:latest"]
