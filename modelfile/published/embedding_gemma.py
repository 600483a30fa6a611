"""EmbeddingGemma, as a Gemma 3 with two further matrices behind the pooling."""

from __future__ import annotations

from modelfile.published.layout import Layout, Rewrite
from modelfile.published.reading import rows, tensor
from registry.gguf import GGUFHeader


def _marks(header: GGUFHeader) -> bool:
    return header.architecture == "gemma3" and tensor(header, "dense.0.weight") is not None


LAYOUT = Layout(
    name="embeddinggemma",
    version=1,
    marks=_marks,
    text=Rewrite(
        architecture="gemma-embedding",
        renamed={r"^dense\.0\.": "dense_2.", r"^dense\.1\.": "dense_3.", r"^norm\.": "output_norm."},
        without_keys=("gemma3.attention.causal", "gemma3.attention.sliding_window_pattern"),
        moved={"gemma-embedding.rope.freq_base_swa": "gemma3.rope.local.freq_base"},
        defaults={"gemma-embedding.rope.freq_base_swa": 10_000.0},
        values={
            "gemma-embedding.dense_2_feat_in": rows("dense.0.weight", 0),
            "gemma-embedding.dense_2_feat_out": rows("dense.0.weight"),
            "gemma-embedding.dense_3_feat_in": rows("dense.1.weight", 0),
            "gemma-embedding.dense_3_feat_out": rows("dense.1.weight"),
        },
        vocabulary="token_embd.weight",
    ),
)
