"""Models of random weights: llama.cpp loads them, and no token that ends an answer is among the likely ones."""

from __future__ import annotations

from pathlib import Path

import llama_cpp.llama_cpp as C
import numpy as np
import pytest

from bench.random_model import FILE_TYPES, Shape, ending_tokens, quantize, write_model
from bench.raw import Loop, Model
from registry.bundled import MODELS
from registry.names import ModelName

TINYCHAT = MODELS[ModelName.parse("tinychat")].path
SMALL = Shape(layers=1, width=256, feed_forward=512, heads=4, kv_heads=2)


@pytest.fixture(scope="module")
def random_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bench")
    write_model(TINYCHAT, folder / "f16.gguf", SMALL)
    quantize(folder / "f16.gguf", folder / "q8_0.gguf", FILE_TYPES["q8_0"])
    return folder / "q8_0.gguf"


def test_it_has_the_vocabulary(random_model: Path) -> None:
    ours, original = Model(random_model, 1), Model(TINYCHAT, 1)
    assert ours.n_vocab == original.n_vocab
    assert ours.tokenize("the quick brown fox") == original.tokenize("the quick brown fox")


def test_endings_are_not_among_the_likely(random_model: Path) -> None:
    model = Model(random_model, 1)
    loop = Loop(model, 1)
    loop.prefill([model.tokenize("the quick brown fox")])
    logits = np.ctypeslib.as_array(C.llama_get_logits(loop.context), (model.n_vocab,))
    likely = set(np.argsort(-logits)[:100].tolist())
    endings = ending_tokens(random_model)
    assert endings
    assert not likely & set(endings)


def test_what_cannot_be_read_is_told(tmp_path: Path) -> None:
    (tmp_path / "no.gguf").write_bytes(b"GGUF")
    with pytest.raises(RuntimeError, match="could not"):
        quantize(tmp_path / "no.gguf", tmp_path / "out.gguf", FILE_TYPES["q8_0"])
