"""A model that others published: all-MiniLM-L6-v2, whose weights a Python package carries."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGUFReader

from modelfile.convert import convert
from modelfile.convert.checkpoint import open_checkpoint
from modelfile.convert.files import Files
from tests.modelfile.convert.checkpoints import files_in
from tests.modelfile.convert.encoders import bert_mean
from tests.modelfile.convert.llamacpp import cosine, embedding, tokenize
from tests.modelfile.convert.minilm import downloaded
from tests.modelfile.convert.test_golden import metadata, quiet

RECORDED = Path(__file__).parents[2] / "data/golden/minilm-gguf.json"
TEXT = "why is the sky blue?"
NOT_READ = {"tokenizer.ggml.cls_token_id", "tokenizer.ggml.scores"}
"""Recorded keys that llama.cpp does not read for this architecture."""


@pytest.fixture(scope="module")
def folder(request: pytest.FixtureRequest) -> Path:
    """The checkpoint."""
    return downloaded(request.config)


@pytest.fixture(scope="module")
def model(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint as GGUF."""
    target = tmp_path_factory.mktemp("minilm") / "minilm.gguf"
    convert(files_in(folder), target, quiet)
    return target


def recorded() -> Any:
    """What a real Ollama made of the same folder."""
    return json.loads(RECORDED.read_text(encoding="utf-8"))


def summary(value: Any) -> Any:
    """A value as it is recorded: of lists the length and both ends, as texts."""
    if not isinstance(value, list):
        return value
    return {"len": len(value), "first": [str(item) for item in value[:4]], "last": [str(item) for item in value[-2:]]}


def test_metadata(model: Path) -> None:
    found = {key: summary(value) for key, value in metadata(model).items()}
    wanted = {key: value for key, value in recorded()["kv"].items() if key not in NOT_READ}
    assert {key: found.get(key) for key in wanted} == wanted
    assert found["tokenizer.ggml.bos_token_id"] == recorded()["kv"]["tokenizer.ggml.cls_token_id"]


def test_every_tensor_to_the_bit(model: Path) -> None:
    found = {
        tensor.name: {
            "name": tensor.name,
            "type": tensor.tensor_type.name,
            "shape": [int(size) for size in tensor.shape],
            "sha256": hashlib.sha256(tensor.data.tobytes()).hexdigest()[:16],
        }
        for tensor in GGUFReader(model).tensors
    }
    assert found == {tensor["name"]: tensor for tensor in recorded()["tensors"]}


def test_an_embedding(folder: Path, model: Path) -> None:
    ids = tokenize(model, TEXT)
    assert ids == [101, 2339, 2003, 1996, 3712, 2630, 1029, 102]
    vector = embedding(model, ids)
    vector /= np.linalg.norm(vector)
    assert len(vector) == 384
    assert vector[:3] == pytest.approx([0.01007, -0.00176, 0.05007], abs=5e-4)
    checkpoint = open_checkpoint(Files(files_in(folder)))
    weights = {name: source.tensor().read() for name, source in checkpoint.sources.items() if source.dtype == "F32"}
    config = json.loads((folder / "config.json").read_text())
    assert cosine(vector, bert_mean(weights, config, ids)) > 0.9999
