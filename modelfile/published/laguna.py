"""Laguna, with older names for the gate of its attention and for the positions in its window."""

from __future__ import annotations

from modelfile.published.layout import Layout, Rewrite
from modelfile.published.reading import has_key, has_tensor
from registry.gguf import GGUFHeader

_MOVED = {
    "laguna.rope.dimension_count_swa": "laguna.rope.swa.dimension_count",
    "laguna.rope.freq_base_swa": "laguna.rope.swa.freq_base",
}


def _marks(header: GGUFHeader) -> bool:
    is_old = has_tensor(header, r"blk\.\d+\.attn_g\.") or has_key(header, *_MOVED.values())
    return header.architecture == "laguna" and is_old


LAYOUT = Layout(
    name="laguna",
    version=1,
    marks=_marks,
    text=Rewrite(architecture="laguna", renamed={r"\.attn_g\.": ".attn_gate."}, moved=_MOVED),
)
