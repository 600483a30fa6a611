"""Gemma 4, with the models that see and hear in the same file, and a vocabulary that passes for SentencePiece's.

Only the language model is made of it so far.
"""

from __future__ import annotations

from modelfile.published.layout import Layout, Rewrite
from modelfile.published.reading import has_key, has_tensor
from registry.gguf import GGUFHeader

_SENSES = r"(a|v|mm|model\.vision_tower)\."
_SCALES = r"blk\.\d+\.ffn_gate_inp\.per_expert_scale$"


def _is_misread(header: GGUFHeader) -> bool:
    """Whether a vocabulary with merges has the name of one without."""
    return header.metadata.get("tokenizer.ggml.model") == "llama" and has_key(header, "tokenizer.ggml.merges")


def _marks(header: GGUFHeader) -> bool:
    return header.architecture == "gemma4" and (has_tensor(header, rf"{_SENSES}|{_SCALES}") or _is_misread(header))


LAYOUT = Layout(
    name="gemma4",
    version=1,
    marks=_marks,
    text=Rewrite(
        architecture="gemma4",
        without_tensors=_SENSES,
        renamed={r"\.ffn_gate_inp\.per_expert_scale$": ".ffn_down_exps.scale"},
        values={"tokenizer.ggml.model": lambda header: "gemma4" if _is_misread(header) else None},
    ),
)
