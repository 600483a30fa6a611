"""Qwen2.5-VL, Qwen3-Next, Qwen3.5 and Qwen3-VL."""

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
    is_of,
    numbers,
    rows,
    vision_sizes,
)
from registry.gguf import GGUFHeader

# Qwen2.5-VL: its language model is Qwen2-VL's; the vision model is in the same file.

_SECTIONS = (16, 24, 24)
"""M-RoPE sections: rotated pairs of a head for time, height and width."""
_WINDOWED = 8  # blocks of the vision model between two with full attention


def _sections(header: GGUFHeader) -> list[int]:
    """M-RoPE sections; llama.cpp expects four."""
    return [*(numbers(header, "qwen25vl.rope.mrope_section") or _SECTIONS)[:3], 0]


def _window_pattern(header: GGUFHeader) -> int:
    whole = numbers(header, "qwen25vl.vision.fullatt_block_indexes")
    return whole[0] + 1 if whole else _WINDOWED


QWEN25VL = OllamaLayout(
    name="qwen25vl",
    version=1,
    matches=is_of("qwen25vl"),
    text=GGUFRewrite(
        architecture="qwen2vl",
        without_tensors=VISION,
        defaults={"qwen2vl.rope.dimension_sections": _sections},
    ),
    projector=GGUFRewrite(
        architecture="clip",
        tensors=VISION,
        renamed={
            r"^v\.merger\.ln_q\.": "v.post_ln.",
            r"^v\.merger\.mlp\.": "mm.",
            r"^v\.patch_embd_0\.weight$": "v.patch_embd.weight",
            r"^v\.patch_embd_1\.weight$": "v.patch_embd.weight.1",
        },
        changed={r"v\.patch_embd_[01]\.weight$": AsF32()},
        keeps_metadata=False,
        moved=vision_sizes(
            "qwen25vl",
            "attention.head_count",
            "attention.layer_norm_epsilon",
            "block_count",
            "embedding_length",
            "feed_forward_length",
            "image_size",
            "num_channels",
            "patch_size",
            "spatial_merge_size",
            "window_size",
        )
        | {"clip.vision.projection_dim": "qwen25vl.embedding_length"},
        defaults={
            "clip.vision.feed_forward_length": rows("v.blk.0.ffn_up.weight"),
            "clip.vision.image_size": 560,
        },
        values={
            "clip.has_vision_encoder": True,
            "clip.projector_type": "qwen2.5vl_merger",
            "clip.use_silu": True,
            "clip.vision.image_mean": [0.48145466, 0.4578275, 0.40821073],
            "clip.vision.image_std": [0.26862954, 0.26130258, 0.27577711],
            "clip.vision.n_wa_pattern": _window_pattern,
        },
    ),
)


# Qwen3-Next and Qwen3.5 (gated delta net): other tensor names; vision and MTP models are in the same file.
# Only the language model is extracted.

_FURTHER: Final = r"(v|mm|mtp)\."
_GUESSING: Final = r"mtp\."
_STEP: Final = r"blk\.\d+\.ssm_dt$"
_BLOCK: Final = re.compile(r"blk\.(\d+)\.")


def _blocks(header: GGUFHeader) -> int | None:
    """The number of layers without MTP layers; None if there are no MTP layers."""
    blocks = [int(match[1]) for tensor in header.tensors if (match := _BLOCK.match(tensor.name))]
    return max(blocks) + 1 if blocks and has_tensor(header, _GUESSING) else None


def _qwen35(name: str, *, sections: bool) -> OllamaLayout:
    """The layout for an architecture; `sections` says whether it has M-RoPE."""
    places, heads, ahead = (
        f"{name}.{key}" for key in ("rope.dimension_sections", "attention.head_count_kv", "nextn_predict_layers")
    )

    def matches(header: GGUFHeader) -> bool:
        if header.architecture != name:
            return False
        is_short = sections and len(numbers(header, places)) == len("thw")
        return is_short or 0 in numbers(header, heads) or has_tensor(header, rf"{_FURTHER}|{_STEP}")

    def four_sections(header: GGUFHeader) -> list[int] | None:
        sections = numbers(header, places)
        return [*sections, 0] if len(sections) == len("thw") else None

    return OllamaLayout(
        name=name,
        version=1,
        matches=matches,
        text=GGUFRewrite(
            architecture=name,
            without_tensors=_FURTHER,
            renamed={r"\.ssm_dt$": ".ssm_dt.bias"},
            values={
                f"{name}.block_count": _blocks,
                ahead: lambda header: 0 if _blocks(header) and has_key(header, ahead) else None,
                heads: lambda header: max(numbers(header, heads), default=0) or None,
                places: four_sections,
            },
        ),
    )


QWEN3_NEXT = _qwen35("qwen3next", sections=False)
QWEN35 = _qwen35("qwen35", sections=True)
QWEN35_MOE = _qwen35("qwen35moe", sections=True)


# Qwen3-VL, dense and MoE: the vision model is in the same file. Only the language model is extracted.

_VL_SECTIONS = [24, 20, 20, 0]
"""M-RoPE sections: rotated pairs of a head for time, height and width."""


def _qwen3vl(name: str) -> OllamaLayout:
    """The layout for an architecture."""
    sections = f"{name}.rope.dimension_sections"

    def matches(header: GGUFHeader) -> bool:
        return header.architecture == name and (has_tensor(header, VISION) or not has_key(header, sections))

    def levels(header: GGUFHeader) -> int:
        """The number of layers with DeepStack features from the vision model."""
        return len(numbers(header, f"{name}.vision.deepstack_visual_indexes"))

    return OllamaLayout(
        name=name,
        version=1,
        matches=matches,
        text=GGUFRewrite(
            architecture=name,
            without_tensors=VISION,
            defaults={sections: _VL_SECTIONS, f"{name}.n_deepstack_layers": levels},
        ),
    )


QWEN3VL, QWEN3VL_MOE = _qwen3vl("qwen3vl"), _qwen3vl("qwen3vlmoe")
