"""LFM2, whose last norm has the name that it has in other models."""

from __future__ import annotations

from modelfile.published.layout import Layout, Rewrite
from modelfile.published.reading import rows, tensor
from registry.gguf import GGUFHeader


def _marks(header: GGUFHeader) -> bool:
    is_lfm2 = header.architecture == "lfm2"
    return (
        is_lfm2
        and tensor(header, "token_embd_norm.weight") is None
        and tensor(header, "output_norm.weight") is not None
    )


LAYOUT = Layout(
    name="lfm2",
    version=1,
    marks=_marks,
    text=Rewrite(
        architecture="lfm2",
        renamed={r"^output_norm\.": "token_embd_norm."},
        values={
            "lfm2.feed_forward_length": rows("blk.0.ffn_gate.weight"),
            "tokenizer.ggml.pre": "lfm2",
        },
    ),
)
