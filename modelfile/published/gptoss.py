"""gpt-oss without the hyphen."""

from __future__ import annotations

from modelfile.published.layout import Layout, Rewrite
from modelfile.published.reading import is_of, rows

LAYOUT = Layout(
    name="gptoss",
    version=1,
    marks=is_of("gptoss"),
    text=Rewrite(
        architecture="gpt-oss",
        renamed={
            r"\.attn_out\.": ".attn_output.",
            r"\.attn_sinks$": ".attn_sinks.weight",
            r"\.ffn_norm\.": ".post_attention_norm.",
        },
        defaults={
            "gpt-oss.expert_feed_forward_length": rows("blk.0.ffn_gate_exps.weight"),
            "gpt-oss.rope.scaling.type": "yarn",
        },
        values={"tokenizer.ggml.pre": "gpt-4o"},
    ),
)
