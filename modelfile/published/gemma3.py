"""Gemma 3, with its vision model in the same file, or with its positions under other keys."""

from __future__ import annotations

from modelfile.published.layout import AsF32, Layout, Rewrite
from modelfile.published.reading import VISION, has_key, has_tensor, rows, vision_sizes
from registry.gguf import GGUFArray, GGUFHeader

_LONG_CONTEXT = 131072  # tokens; models for that many stretch their positions
_STRETCH = 8.0
_EMBEDDINGS = "token_embd.weight"


def _marks(header: GGUFHeader) -> bool:
    return header.architecture == "gemma3" and (
        has_tensor(header, VISION)
        or has_key(header, "gemma3.rope.global.freq_base", "gemma3.rope.local.freq_base")
        or not has_key(header, "gemma3.attention.layer_norm_rms_epsilon")
        or _has_more_tokens(header)
    )


def _has_more_tokens(header: GGUFHeader) -> bool:
    """Whether the vocabulary has tokens that have no embedding."""
    tokens, embedded = header.metadata.get("tokenizer.ggml.tokens"), rows(_EMBEDDINGS)(header)
    return isinstance(tokens, GGUFArray) and embedded is not None and len(tokens) > embedded


def _is_long(header: GGUFHeader) -> bool:
    context = header.field("context_length")
    return isinstance(context, int) and context >= _LONG_CONTEXT


LAYOUT = Layout(
    name="gemma3",
    version=1,
    marks=_marks,
    text=Rewrite(
        architecture="gemma3",
        without_tensors=VISION,
        moved={
            "gemma3.rope.freq_base": "gemma3.rope.global.freq_base",
            "gemma3.rope.freq_base_swa": "gemma3.rope.local.freq_base",
        },
        defaults={
            "gemma3.attention.layer_norm_rms_epsilon": 1e-6,
            "gemma3.rope.freq_base": 1_000_000.0,
            "gemma3.rope.freq_base_swa": 10_000.0,
            "gemma3.rope.scaling.type": lambda header: "linear" if _is_long(header) else None,
            "gemma3.rope.scaling.factor": lambda header: _STRETCH if _is_long(header) else None,
        },
        vocabulary=_EMBEDDINGS,
    ),
    projector=Rewrite(
        architecture="clip",
        tensors=VISION,
        renamed={
            r"^v\.patch_embedding\.": "v.patch_embd.",
            r"^v\.position_embedding\.": "v.position_embd.",
            r"^v\.post_layernorm\.": "v.post_ln.",
            r"\.layer_norm([12])\.": r".ln\1.",
            r"\.attn_output\.": ".attn_out.",
            r"\.mlp\.fc1\.": ".ffn_down.",
            r"\.mlp\.fc2\.": ".ffn_up.",
            r"^mm\.mm_": "mm.",
        },
        changed={r"v\.(patch|position)_embedding\.weight$": AsF32()},
        keeps_metadata=False,
        moved=vision_sizes(
            "gemma3",
            "block_count",
            "embedding_length",
            "feed_forward_length",
            "image_size",
            "patch_size",
            "attention.head_count",
            "attention.layer_norm_epsilon",
        )
        | {"clip.vision.projection_dim": "gemma3.embedding_length"},
        values={
            "clip.has_vision_encoder": True,
            "clip.projector_type": "gemma3",
            "clip.use_gelu": True,
            "clip.vision.image_mean": [0.5, 0.5, 0.5],
            "clip.vision.image_std": [0.5, 0.5, 0.5],
        },
    ),
)
