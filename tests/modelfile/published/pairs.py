"""All layouts as pairs: the published file, and what llama.cpp loads."""

from __future__ import annotations

from tests.modelfile.published import state_pairs, text_pairs, vision_pairs

VISION = {make.__name__: make for make in (vision_pairs.gemma3, vision_pairs.mistral3, vision_pairs.qwen25vl)}
"""Those of which a projector is made too."""
TEXT = {
    make.__name__: make
    for make in (
        state_pairs.glm4moelite,
        state_pairs.nemotron_h_moe,
        state_pairs.nemotron_h_omni,
        state_pairs.nemotron_h_omni_moe,
        state_pairs.qwen35,
        state_pairs.qwen35moe,
        state_pairs.qwen3next,
        text_pairs.embeddinggemma,
        text_pairs.gemma3n,
        text_pairs.gptoss,
        text_pairs.laguna,
        text_pairs.lfm2,
        text_pairs.olmo3,
        vision_pairs.gemma4,
        vision_pairs.llama4,
        vision_pairs.qwen3vl,
        vision_pairs.qwen3vlmoe,
    )
}
PAIRS = VISION | TEXT
