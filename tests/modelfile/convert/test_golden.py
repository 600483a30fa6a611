"""Checkpoints of six families as Hugging Face writes them: what transformers and llama.cpp's converter make of them."""

import json
from pathlib import Path
from typing import Any

import pytest
from gguf import GGUFReader

from modelfile.convert import ConvertedInfo, convert, convert_adapter
from tests.modelfile.convert.checkpoints import DATA, files_in
from tests.modelfile.convert.llamacpp import cosine, embedding, last_logits

FAMILIES = ["bert", "gemma", "llama-bpe", "llama-spm", "phi3", "qwen2"]
OWN_KEYS = {"general.file_type", "general.quantization_version", "bert.normalize_embeddings"}
"""Left out of the recordings, or not known to the program that was recorded."""


def recorded(name: str) -> Any:
    """One of the recorded JSON files."""
    return json.loads((DATA / name).read_text(encoding="utf-8"))


def quiet(done: int, total: int) -> None:
    """Progress that nobody looks at."""


def metadata(path: Path) -> dict[str, Any]:
    """All keys of a GGUF."""
    return {key: field.contents() for key, field in GGUFReader(path).fields.items() if not key.startswith("GGUF.")}


def shapes(path: Path) -> dict[str, list[int]]:
    """The shapes of all tensors in ggml's order."""
    return {tensor.name: [int(size) for size in tensor.shape] for tensor in GGUFReader(path).tensors}


def summary(value: Any) -> Any:
    """A value as the recordings have it: of lists the length and both ends."""
    return {"count": len(value), "first": value[:6], "last": value[-6:]} if isinstance(value, list) else value


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """All six as GGUF."""
    folder = tmp_path_factory.mktemp("converted")
    targets = {name: folder / f"{name}.gguf" for name in FAMILIES}
    for name, target in targets.items():
        convert(files_in(DATA / name / "ckpt"), target, quiet)
    return targets


@pytest.mark.parametrize("name", FAMILIES)
def test_metadata_and_shapes(name: str, converted: dict[str, Path]) -> None:
    reference = recorded(f"{name}/reference.json")
    found = {key: summary(value) for key, value in metadata(converted[name]).items()}
    assert found.keys() - OWN_KEYS == reference["metadata"].keys()
    if name == "bert":
        # The recording names one pre-tokenizer for all; the runner has none for WordPiece.
        reference["metadata"]["tokenizer.ggml.pre"] = "default"
    assert {key: value for key, value in found.items() if key not in OWN_KEYS} == reference["metadata"]
    assert shapes(converted[name]) == reference["tensors"]


@pytest.mark.parametrize("name", FAMILIES)
def test_the_network_computes_the_same(name: str, converted: dict[str, Path]) -> None:
    expected = recorded(f"{name}/logits.json")
    compute = embedding if name == "bert" else last_logits
    assert cosine(compute(converted[name], expected["ids"]), expected["values"]) > 0.9999


def test_an_adapter(converted: dict[str, Path], tmp_path: Path) -> None:
    target = tmp_path / "adapter.gguf"
    convert_adapter(files_in(DATA / "llama-bpe/adapter"), metadata(converted["llama-bpe"]), target, quiet)
    reference = recorded("llama-bpe/adapter.json")
    assert metadata(target) == reference["metadata"]
    assert shapes(target) == reference["tensors"]
    expected = recorded("llama-bpe/adapter-logits.json")
    assert cosine(last_logits(converted["llama-bpe"], expected["ids"], target), expected["values"]) > 0.9999
    assert cosine(last_logits(converted["llama-bpe"], expected["ids"]), expected["values"]) < 0.5


def test_what_is_told(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    target = tmp_path / "model.gguf"
    info = convert(files_in(DATA / "qwen2/ckpt"), target, lambda done, total: seen.append((done, total)))
    assert info == ConvertedInfo("qwen2", file_type=1, parameters=254528)
    done, total = seen[-1]
    assert done == total
    assert [pair[0] for pair in seen] == sorted(pair[0] for pair in seen)
    assert total < target.stat().st_size < total + 100_000
