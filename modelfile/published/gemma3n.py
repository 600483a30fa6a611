"""Gemma 3n, with tokens for images and sounds that one of its two tables of embeddings does not have."""

from __future__ import annotations

import re
from typing import Final

from modelfile.published.layout import Layout, Rewrite
from modelfile.published.reading import numbers, rows, texts
from registry.gguf import GGUFHeader

_EMBEDDINGS: Final = "token_embd.weight"
_OF_LAYERS: Final = "per_layer_token_embd.weight"
_BYTE: Final = re.compile(r"<0x..>$")
_NORMAL_TYPE, _BYTE_TYPE = 1, 6


def _marks(header: GGUFHeader) -> bool:
    if header.architecture != "gemma3n":
        return False
    embeddings, of_layers = rows(_EMBEDDINGS)(header), rows(_OF_LAYERS)(header)
    return embeddings is not None and of_layers is not None and embeddings > of_layers


def _token_types(header: GGUFHeader) -> list[int] | None:
    """What the tokens are: some are bytes, and those that are not used are normal ones."""
    types = numbers(header, "tokenizer.ggml.token_type")
    for place, text in enumerate(texts(header, "tokenizer.ggml.tokens")[: len(types)]):
        if _BYTE.match(text):
            types[place] = _BYTE_TYPE
        elif text.startswith("<unused"):
            types[place] = _NORMAL_TYPE
    return types or None


LAYOUT = Layout(
    name="gemma3n",
    version=1,
    marks=_marks,
    text=Rewrite(
        architecture="gemma3n",
        shortened={_EMBEDDINGS: _OF_LAYERS},
        values={"tokenizer.ggml.model": "llama", "tokenizer.ggml.token_type": _token_types},
        vocabulary=_OF_LAYERS,
    ),
)
