"""How many rows a picture may have, which depends on the model's projector and on its context."""

from __future__ import annotations

from engine.loading.derivations import Weights
from registry.gguf import read_header

QWEN_VL = {"qwen2vl", "qwen25vl", "qwen3vl", "qwen3vlmoe"}
LEAST_IMAGE_TOKENS = 1024  # of Qwen's models, which are inaccurate with fewer
PATCHES_A_SIDE = 2  # that become one row, unless the file says otherwise
MOST_IMAGE_TOKENS = {
    "qwen2vl_merger": 4096,
    "qwen2.5vl_merger": 4096,
    "qwen3vl_merger": 4096,
    "pixtral": 1024,
    "gemma4v": 1120,
    "glm4v": 4096,
    "youtuvl": 62_500,
    "hunyuanvl": 16_384,
}
"""Rows of one picture at most, by the projectors (`clip.projector_type`) that take pictures of any size."""


def image_tokens(weights: Weights, num_ctx: int) -> tuple[int, int]:
    """The least and the most rows of one picture, -1 for what the projector says.

    A picture may fill half of the context: few projectors with pictures of any size would allow more.
    """
    least = LEAST_IMAGE_TOKENS if weights.header.architecture in QWEN_VL else -1
    if weights.projector is None or not (kind := read_header(weights.projector).metadata.get("clip.projector_type")):
        return least, -1
    half = max(num_ctx // 2, least)
    return least, half if half < MOST_IMAGE_TOKENS.get(str(kind), 0) else -1


def most_patches(weights: Weights, num_ctx: int) -> int:
    """The most patches of one picture that an encoder with attention in windows looks at; 0 for other encoders."""
    metadata = {} if weights.projector is None else read_header(weights.projector).metadata
    if "clip.vision.n_wa_pattern" not in metadata:
        return 0
    most = image_tokens(weights, num_ctx)[1]
    merge = metadata.get("clip.vision.spatial_merge_size")
    tokens = most if most > 0 else MOST_IMAGE_TOKENS.get(str(metadata.get("clip.projector_type")), 0)
    return tokens * (merge if isinstance(merge, int) else PATCHES_A_SIDE) ** 2
