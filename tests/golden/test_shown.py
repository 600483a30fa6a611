"""Models that this server made, as a real Ollama lists and shows them from the same directory.

Recorded by giving it the directory. Its answers have been changed where we differ on purpose: `insert` is a capability
of weights that know its tokens.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

import registry.bundled
from registry.gguf import read_header
from registry.names import ModelName
from tests.golden.compare import differences, fill
from tests.golden.probes import WEIGHTS, digest_of
from tests.serving import LOOPBACK, PATIENCE, ROOT, serving

RECORDED: dict[str, Any] = json.loads((ROOT / "tests/data/golden/shown.json").read_text(encoding="utf-8"))
CASES: list[dict[str, Any]] = RECORDED["cases"]
LEFT_OUT = {"modified_at", "tensors", "model_info"}
"""Long ones are recorded for small files only."""
TINYCHAT = registry.bundled.MODELS[ModelName.parse("tinychat")].path


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A server that has all the models."""
    blobs = {token: path.read_bytes() for token, path in WEIGHTS.items()}
    blobs |= {token: base64.b64decode(coded) for token, coded in RECORDED["blobs"].items()}
    tokens = {token: digest_of(data) for token, data in blobs.items()}
    with (
        serving(tmp_path_factory.mktemp("shown") / "models") as server,
        httpx.Client(base_url=server.url, timeout=PATIENCE, **LOOPBACK) as client,
    ):
        for token, data in blobs.items():
            client.post(f"/api/blobs/{tokens[token]}", content=data).raise_for_status()
        for case in CASES:
            body = {"model": case["id"], "stream": False, **fill(case["create"], tokens)}
            client.post("/api/create", json=body).raise_for_status()
        yield client


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["id"])
def test_as_ollama_shows_it(client: httpx.Client, case: dict[str, Any]) -> None:
    tokens = {"{CHAT_TEMPLATE}": read_header(TINYCHAT).metadata["tokenizer.chat_template"]}
    wanted = fill(case["show"], tokens)
    shown = client.post("/api/show", json={"model": case["id"], "verbose": case["verbose"]}).json()
    found = {key: value for key, value in shown.items() if key in wanted or key not in LEFT_OUT}
    assert different(wanted, found) == []
    assert [key for key in shown if key in wanted] == list(wanted)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["id"])
def test_as_ollama_lists_it(client: httpx.Client, case: dict[str, Any]) -> None:
    """But for the capabilities: Ollama's list lacks those of chat templates."""
    listed = {model["name"]: model for model in client.get("/api/tags").json()["models"]}
    wanted = case["tags"] | {"capabilities": case["show"]["capabilities"]}
    found = listed[wanted["name"]]
    assert different(wanted, {key: found[key] for key in wanted}) == []


def different(wanted: dict[str, Any], found: dict[str, Any]) -> list[str]:
    pair = ({"status": 200, "headers": {}, "json": answer} for answer in (wanted, found))
    return differences(*pair, "exact")
