"""Layouts that are known only so far as that llama.cpp cannot load them: each mark here is what it fails at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from modelfile.published.reading import has_tensor, rows
from registry.gguf import GGUFArray, GGUFHeader
from registry.gguf.types import STRING

_NAMES: Final = frozenset(("deepseekocr", "glmocr", "nemotron_h_omni"))
"""Architectures that llama.cpp has under other names."""
_NEMOTRON: Final = r"mtp\.|blk\.\d+\.ffn_latent_(in|out)\."
"""Tensors that llama.cpp's Nemotron does not have."""


@dataclass(frozen=True, slots=True)
class Unloadable:
    """A file that llama.cpp cannot load, of which it is not known what would have to change."""

    architecture: str

    @property
    def reason(self) -> str:
        """What a user is told."""
        return (
            f"failed to load model: the architecture '{self.architecture}' "
            "in the layout of Ollama's own engine is not supported yet"
        )


def is_unloadable(header: GGUFHeader) -> bool:
    """Whether llama.cpp is known to fail at this file."""
    name = header.architecture
    return (
        name in _NAMES
        or (name == "nemotron_h_moe" and has_tensor(header, _NEMOTRON))
        or (name == "gemma3n" and _differs_in_tokens(header))
        or (name == "bert" and _has_bytes_as_texts(header))
    )


def _differs_in_tokens(header: GGUFHeader) -> bool:
    """Whether the two tables of embeddings are of different vocabularies."""
    first, second = rows("token_embd.weight")(header), rows("per_layer_token_embd.weight")(header)
    return None not in (first, second) and first != second


def _has_bytes_as_texts(header: GGUFHeader) -> bool:
    """Whether the table by which a tokenizer normalises is an array of texts."""
    found = header.metadata.get("tokenizer.ggml.precompiled_charsmap")
    is_used = header.metadata.get("tokenizer.ggml.model") == "t5"
    return is_used and isinstance(found, GGUFArray) and found.kind == STRING
