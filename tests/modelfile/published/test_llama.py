"""Llama 3 is loaded as it is, with what it does not say beside it."""

from __future__ import annotations

from pathlib import Path

import pytest

from modelfile.published import OllamaLayout, layout_of, plan
from registry.gguf import read_header
from tests.modelfile.published.llama3 import END_OF_TEXT, END_OF_TURN, llama3
from tests.modelfile.published.models import Model

SAID = {"tokenizer.ggml.eot_token_id": END_OF_TURN}


def write(folder: Path, model: Model) -> Path:
    return model.write(folder / "published.gguf")


@pytest.mark.parametrize(
    ("pre", "eos", "said"),
    [
        (None, END_OF_TEXT, {"tokenizer.ggml.pre": "llama-bpe", "tokenizer.ggml.eos_token_id": END_OF_TURN}),
        ("default", END_OF_TURN, {"tokenizer.ggml.pre": "llama-bpe"}),
        ("llama-bpe", END_OF_TEXT, {"tokenizer.ggml.eos_token_id": END_OF_TURN}),
    ],
)
def test_what_is_said_beside(pre: str | None, eos: int, said: dict[str, str | int], tmp_path: Path) -> None:
    path = write(tmp_path, llama3(pre, eos))
    header = read_header(path)
    layout = layout_of(header)
    assert isinstance(layout, OllamaLayout)
    assert plan(layout.text, path, header).overrides() == said | SAID


def test_one_that_says_everything(tmp_path: Path) -> None:
    assert layout_of(read_header(write(tmp_path, llama3("llama-bpe", END_OF_TURN)))) is None


def test_another_vocabulary(tmp_path: Path) -> None:
    model = llama3()
    tokens = model.metadata["tokenizer.ggml.tokens"]
    assert isinstance(tokens, list)
    tokens[END_OF_TURN] = "<|im_end|>"
    assert layout_of(read_header(write(tmp_path, model))) is None
