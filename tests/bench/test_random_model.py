"""Models of random weights: llama.cpp loads them, and what they write are words that come back as the same tokens."""

from __future__ import annotations

from pathlib import Path

import llama_cpp.llama_cpp as C
import numpy as np
import pytest

from bench.random_model import FILE_TYPES, Shape, quantize, write_model
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


def likeliest(model: Model) -> list[int]:
    loop = Loop(model, 1)
    loop.prefill([model.tokenize("the quick brown fox")])
    logits = np.ctypeslib.as_array(C.llama_get_logits(loop.context), (model.n_vocab,))
    return [int(token) for token in np.argsort(-logits)[:100]]


def piece(model: Model, token: int) -> bytes:
    buffer = bytes(64)
    return buffer[: C.llama_token_to_piece(model.vocab, token, buffer, len(buffer), 0, True)]


def test_endings_are_not_among_the_likely(random_model: Path) -> None:
    model = Model(random_model, 1)
    assert any(C.llama_vocab_is_eog(model.vocab, token) for token in range(model.n_vocab))
    assert not any(C.llama_vocab_is_eog(model.vocab, token) for token in likeliest(model))


def test_what_it_writes_comes_back_as_the_same_tokens(random_model: Path) -> None:
    model = Model(random_model, 1)
    answer = likeliest(model)
    assert model.tokenize("".join(piece(model, token).decode() for token in answer)) == answer


def test_what_cannot_be_read_is_told(tmp_path: Path) -> None:
    (tmp_path / "no.gguf").write_bytes(b"GGUF")
    with pytest.raises(RuntimeError, match="could not"):
        quantize(tmp_path / "no.gguf", tmp_path / "out.gguf", FILE_TYPES["q8_0"])
