"""Llama 3, Llama 4 and Mistral 3."""

from __future__ import annotations

from modelfile.published.layout import (
    VISION,
    AsF32,
    GGUFRewrite,
    OllamaLayout,
    PairedRows,
    has_key,
    has_tensor,
    pre_unless_known,
    vision_sizes,
)
from registry.gguf import GGUFArray, GGUFHeader

# Llama 3: files without a pre-tokenizer or an end-of-turn token.

_END_OF_TEXT, _START_OF_HEADER, _END_OF_TURN = 128001, 128006, 128009
_MARKS = {_START_OF_HEADER: "<|start_header_id|>", _END_OF_TURN: "<|eot_id|>"}
_pre = pre_unless_known("llama-bpe")


def _is_llama3(header: GGUFHeader) -> bool:
    lacks_something = _pre(header) is not None or header.metadata.get("tokenizer.ggml.eos_token_id") == _END_OF_TEXT
    tokens = header.metadata.get("tokenizer.ggml.tokens")
    if header.architecture != "llama" or not lacks_something or not isinstance(tokens, GGUFArray):
        return False
    return tokens.texts_at(_MARKS) == _MARKS


def _end(header: GGUFHeader, key: str) -> int | None:
    """The end-of-turn token, if the file has the end of text or nothing under this key."""
    return _END_OF_TURN if header.metadata.get(key, _END_OF_TEXT) == _END_OF_TEXT else None


LLAMA3 = OllamaLayout(
    name="llama3",
    version=1,
    matches=_is_llama3,
    text=GGUFRewrite(
        architecture="llama",
        values={
            "tokenizer.ggml.pre": _pre,
            "tokenizer.ggml.eos_token_id": lambda header: _end(header, "tokenizer.ggml.eos_token_id"),
            "tokenizer.ggml.eot_token_id": lambda header: _end(header, "tokenizer.ggml.eot_token_id"),
        },
    ),
)


# Llama 4: its vision model is in the same file. Only the language model is extracted.


def _is_llama4(header: GGUFHeader) -> bool:
    return header.architecture == "llama4" and has_tensor(header, VISION)


LLAMA4 = OllamaLayout(
    name="llama4", version=1, matches=_is_llama4, text=GGUFRewrite(architecture="llama4", without_tensors=VISION)
)


# Mistral 3: its vision model (Pixtral's) is in the same file, or long-context settings have other keys.

_MOVED = {
    "mistral3.rope.scaling.yarn_beta_fast": "mistral3.rope.scaling.beta_fast",
    "mistral3.rope.scaling.yarn_beta_slow": "mistral3.rope.scaling.beta_slow",
    "mistral3.rope.scaling.yarn_log_multiplier": "mistral3.rope.scaling.mscale_all_dim",
    "mistral3.attention.temperature_scale": "mistral3.rope.scaling_beta",
}
_HEADS = PairedRows("mistral3.vision.attention.head_count")


def _is_mistral3(header: GGUFHeader) -> bool:
    return header.architecture == "mistral3" and (has_tensor(header, VISION) or has_key(header, *_MOVED.values()))


MISTRAL3 = OllamaLayout(
    name="mistral3",
    version=1,
    matches=_is_mistral3,
    text=GGUFRewrite(
        architecture="mistral3",
        without_tensors=VISION,
        moved=_MOVED,
        values={"tokenizer.ggml.pre": pre_unless_known("tekken")},
    ),
    projector=GGUFRewrite(
        architecture="clip",
        tensors=VISION,
        renamed={
            r"^v\.patch_conv\.": "v.patch_embd.",
            r"^v\.encoder_norm\.": "v.pre_ln.",
            r"\.attn_output\.": ".attn_out.",
            r"\.attn_norm\.": ".ln1.",
            r"\.ffn_norm\.": ".ln2.",
            r"^mm\.linear_([12])\.": r"mm.\1.",
            r"^mm\.norm\.": "mm.input_norm.",
            r"^mm\.patch_merger\.merging_layer\.": "mm.patch_merger.",
        },
        changed={r"v\.patch_conv\.weight$": AsF32(), r"v\.blk\.\d+\.attn_[qk]\.weight$": _HEADS},
        zeros={"v.token_embd.img_break": "mistral3.embedding_length"},  # no such embedding is in these files
        keeps_metadata=False,
        moved={"clip.rope.freq_base": "mistral3.vision.rope.freq_base"}
        | vision_sizes(
            "mistral3",
            "attention.head_count",
            "block_count",
            "embedding_length",
            "feed_forward_length",
            "image_size",
            "num_channels",
            "patch_size",
        )
        | {
            "clip.vision.spatial_merge_size": "mistral3.spatial_merge_size",
            "clip.vision.projection_dim": "mistral3.embedding_length",
        },
        values={
            "clip.has_vision_encoder": True,
            "clip.projector_type": "pixtral",
            "clip.use_silu": True,
            "clip.vision.attention.layer_norm_epsilon": 1e-5,
            "clip.vision.image_mean": [0.48145467, 0.45782750, 0.40821072],
            "clip.vision.image_std": [0.26862955, 0.26130259, 0.27577710],
        },
    ),
)
