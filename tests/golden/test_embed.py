"""Every recorded embedding, asked again of the same weights, converted by ourselves."""

from __future__ import annotations

import base64
import json
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from modelfile.convert import convert
from tests.golden.allowed import LEFT_OUT
from tests.golden.compare import differences
from tests.golden.probes import digest_of
from tests.modelfile.convert.checkpoints import files_in
from tests.modelfile.convert.minilm import downloaded
from tests.serving import LOOPBACK, PATIENCE, ROOT, serving

CASES: list[dict[str, Any]] = json.loads((ROOT / "tests/data/golden/embed.json").read_text(encoding="utf-8"))
CLOSE = 1e-3


@pytest.fixture(scope="module")
def client(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    folder = tmp_path_factory.mktemp("embed")
    weights = folder / "minilm.gguf"
    convert(files_in(downloaded(request.config)), weights, lambda done, total: None)
    with (
        serving(folder / "models") as server,
        httpx.Client(base_url=server.url, timeout=PATIENCE, **LOOPBACK) as client,
    ):
        create(client, "minilm", weights)
        yield client


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["id"])
def test_as_recorded(client: httpx.Client, case: dict[str, Any]) -> None:
    answer = client.post(case["path"], json=case["body"])
    found, wanted = answer.json(), case["json"]
    assert answer.status_code == case["status"], found
    for vector, other in zip(vectors(found), vectors(wanted), strict=True):
        assert np.abs(np.subtract(vector, other)).max() < CLOSE
    if case["path"] == "/api/show":
        found, wanted = shown(found), shown(wanted)
    pair = ({"status": 200, "headers": {}, "json": without_vectors(answer)} for answer in (wanted, found))
    assert not [line for line in differences(*pair, "exact") if not is_written_too(line)]


def create(client: httpx.Client, name: str, weights: Path) -> None:
    """Make a model of nothing but its weights."""
    digest = digest_of(weights.read_bytes())
    client.post(f"/api/blobs/{digest}", content=weights.read_bytes()).raise_for_status()
    body = {"model": name, "files": {weights.name: digest}, "stream": False}
    client.post("/api/create", json=body).raise_for_status()


def vectors(answer: dict[str, Any]) -> list[Any]:
    """The vectors of an answer, whatever its dialect."""
    items = [item["embedding"] for item in answer.get("data", ())]
    found = [*answer.get("embeddings", ()), *items, *([answer["embedding"]] if answer.get("embedding") else [])]
    return [array("f", base64.b64decode(vector)) if isinstance(vector, str) else vector for vector in found]


def without_vectors(answer: dict[str, Any]) -> dict[str, Any]:
    """The rest of an answer."""
    if "data" in answer:
        answer = answer | {"data": [item | {"embedding": None} for item in answer["data"]]}
    return {key: value for key, value in answer.items() if key not in ("embeddings", "embedding")}


def is_written_too(difference: str) -> bool:
    """Whether it is metadata that the converter writes beyond what was recorded."""
    return difference.startswith(".model_info.") and difference.endswith(" extra")


def shown(answer: dict[str, Any]) -> dict[str, Any]:
    """What `/api/show` tells of the weights."""
    info = {key: value for key, value in answer["model_info"].items() if key not in LEFT_OUT}
    return {"tensors": answer["tensors"], "capabilities": answer["capabilities"], "model_info": info}
