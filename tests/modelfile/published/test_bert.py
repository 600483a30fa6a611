"""A BERT whose precompiled charsmap is base64 text."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from modelfile.convert.writer import Metadata
from modelfile.published import layout_of
from registry.gguf import GGUFArray, GGUFError, read_header
from registry.gguf.types import UINT8
from tests.modelfile.convert.checkpoints import random_weights
from tests.modelfile.convert.llamacpp import cosine, embedding
from tests.modelfile.published.models import HEADS, HIDDEN, INNER, LAYERS, Model, Shapes, embeddings, pieces
from tests.modelfile.published.test_layouts import IDS, derive

TABLE = (1024).to_bytes(4, "little") + bytes(1024) + b"a\0"  # for no byte there is another
KEY = "tokenizer.ggml.precompiled_charsmap"
CONTEXT = 256


def bert(table: str | None) -> Model:
    """A tiny one, with a table of this text."""
    norms = ("attn_output_norm", "layer_output_norm")
    parts: Shapes = {f"attn_{part}": (HIDDEN, HIDDEN) for part in ("q", "k", "v", "output")}
    parts |= {"ffn_up": (INNER, HIDDEN), "ffn_down": (HIDDEN, INNER)} | dict.fromkeys(norms, (HIDDEN,))
    vocabulary = pieces() | {"tokenizer.ggml.model": "t5", "tokenizer.ggml.token_type_count": 2}
    shapes = embeddings(vocabulary, output=False)
    shapes |= {"token_types.weight": (2, HIDDEN), "position_embd.weight": (CONTEXT, HIDDEN)}
    shapes |= {"token_embd_norm.weight": (HIDDEN,), "token_embd_norm.bias": (HIDDEN,)}
    for layer in range(LAYERS):
        for name, shape in parts.items():
            shapes |= {f"blk.{layer}.{name}.weight": shape, f"blk.{layer}.{name}.bias": shape[:1]}
    sizes: Metadata = {
        "bert.context_length": CONTEXT,
        "bert.embedding_length": HIDDEN,
        "bert.block_count": LAYERS,
        "bert.feed_forward_length": INNER,
        "bert.attention.head_count": HEADS,
        "bert.attention.layer_norm_epsilon": 1e-5,
        "bert.attention.causal": False,
        "bert.pooling_type": 1,
    }
    said: Metadata = {} if table is None else {KEY: list(table)}
    return Model("bert", sizes | vocabulary | said, random_weights(shapes))


def test_the_table_is_written_as_bytes(tmp_path: Path) -> None:
    source = bert(base64.b64encode(TABLE).decode()).write(tmp_path / "published.gguf")
    made = derive(source)["text"]
    found = read_header(made).metadata[KEY]
    assert isinstance(found, GGUFArray)
    assert (found.kind, bytes(found.values())) == (UINT8, TABLE)
    assert layout_of(read_header(made)) is None
    expected = bert(None).write(tmp_path / "expected.gguf")
    assert cosine(embedding(made, IDS), embedding(expected, IDS)) > 0.9999
    with pytest.raises(AssertionError):
        embedding(source, IDS)


def test_a_table_that_is_none(tmp_path: Path) -> None:
    source = bert("!").write(tmp_path / "published.gguf")
    with pytest.raises(GGUFError, match="is not in base 64"):
        derive(source)
