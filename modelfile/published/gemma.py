"""The Gemma family: Gemma 3, Gemma 3n, Gemma 4 and EmbeddingGemma."""

from __future__ import annotations

import re
from typing import Final

from modelfile.published.layout import (
    VISION,
    AsF32,
    GGUFRewrite,
    OllamaLayout,
    has_key,
    has_tensor,
    numbers,
    rows,
    tensor,
    texts,
    vision_sizes,
)
from registry.gguf import GGUFArray, GGUFHeader

# Gemma 3: its vision model is in the same file, or its RoPE settings have other keys.

_LONG_CONTEXT = 131072  # tokens; models for this context scale their positions
_STRETCH = 8.0
_EMBEDDINGS = "token_embd.weight"


def _is_gemma3(header: GGUFHeader) -> bool:
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


GEMMA3 = OllamaLayout(
    name="gemma3",
    version=1,
    matches=_is_gemma3,
    text=GGUFRewrite(
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
    projector=GGUFRewrite(
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


# Gemma 3n: tokens for images and audio are missing from one of its two embedding tables.

_PER_LAYER_EMBEDDINGS: Final = "token_embd.weight"
_OF_LAYERS: Final = "per_layer_token_embd.weight"
_BYTE: Final = re.compile(r"<0x..>$")
_NORMAL_TYPE, _BYTE_TYPE = 1, 6


def _is_gemma3n(header: GGUFHeader) -> bool:
    if header.architecture != "gemma3n":
        return False
    embeddings, of_layers = rows(_PER_LAYER_EMBEDDINGS)(header), rows(_OF_LAYERS)(header)
    return embeddings is not None and of_layers is not None and embeddings > of_layers


def _token_types(header: GGUFHeader) -> list[int] | None:
    """Corrected token types: byte tokens are marked as such, unused ones as normal."""
    types = numbers(header, "tokenizer.ggml.token_type")
    for place, text in enumerate(texts(header, "tokenizer.ggml.tokens")[: len(types)]):
        if _BYTE.match(text):
            types[place] = _BYTE_TYPE
        elif text.startswith("<unused"):
            types[place] = _NORMAL_TYPE
    return types or None


GEMMA3N = OllamaLayout(
    name="gemma3n",
    version=1,
    matches=_is_gemma3n,
    text=GGUFRewrite(
        architecture="gemma3n",
        shortened={_PER_LAYER_EMBEDDINGS: _OF_LAYERS},
        values={"tokenizer.ggml.model": "llama", "tokenizer.ggml.token_type": _token_types},
        vocabulary=_OF_LAYERS,
    ),
)


# Gemma 4: vision and audio models are in the same file, and the vocabulary claims to be SentencePiece.
# Only the language model is extracted.

_SENSES = r"(a|v|mm|model\.vision_tower)\."
_SCALES = r"blk\.\d+\.ffn_gate_inp\.per_expert_scale$"


def _is_misread(header: GGUFHeader) -> bool:
    """Whether a vocabulary with merges has the name of one without."""
    return header.metadata.get("tokenizer.ggml.model") == "llama" and has_key(header, "tokenizer.ggml.merges")


def _is_gemma4(header: GGUFHeader) -> bool:
    return header.architecture == "gemma4" and (has_tensor(header, rf"{_SENSES}|{_SCALES}") or _is_misread(header))


GEMMA4 = OllamaLayout(
    name="gemma4",
    version=1,
    matches=_is_gemma4,
    text=GGUFRewrite(
        architecture="gemma4",
        without_tensors=_SENSES,
        renamed={r"\.ffn_gate_inp\.per_expert_scale$": ".ffn_down_exps.scale"},
        values={"tokenizer.ggml.model": lambda header: "gemma4" if _is_misread(header) else None},
    ),
)


# EmbeddingGemma: a Gemma 3 with two more matrices after pooling.


def _is_embedding_gemma(header: GGUFHeader) -> bool:
    return header.architecture == "gemma3" and tensor(header, "dense.0.weight") is not None


EMBEDDING_GEMMA = OllamaLayout(
    name="embeddinggemma",
    version=1,
    matches=_is_embedding_gemma,
    text=GGUFRewrite(
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
