"""Qwen2.5-VL, whose language model is that of Qwen2-VL, with its vision model in the same file."""

from __future__ import annotations

from modelfile.published.layout import AsF32, Layout, Rewrite
from modelfile.published.reading import VISION, is_of, numbers, rows, vision_sizes
from registry.gguf import GGUFHeader

_SECTIONS = (16, 24, 24)
"""How many pairs of a head's numbers turn with the time, the height and the width of an image's parts."""
_WINDOWED = 8  # blocks of the vision model from one that sees all of the image to the next


def _sections(header: GGUFHeader) -> list[int]:
    """llama.cpp wants four."""
    return [*(numbers(header, "qwen25vl.rope.mrope_section") or _SECTIONS)[:3], 0]


def _window_pattern(header: GGUFHeader) -> int:
    whole = numbers(header, "qwen25vl.vision.fullatt_block_indexes")
    return whole[0] + 1 if whole else _WINDOWED


LAYOUT = Layout(
    name="qwen25vl",
    version=1,
    marks=is_of("qwen25vl"),
    text=Rewrite(
        architecture="qwen2vl",
        without_tensors=VISION,
        defaults={"qwen2vl.rope.dimension_sections": _sections},
    ),
    projector=Rewrite(
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
