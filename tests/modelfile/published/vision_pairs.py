"""Models with a vision model in the same file."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelfile.convert.writer import Metadata
from tests.modelfile.convert.checkpoints import random_weights
from tests.modelfile.published.models import (
    EXPERTS,
    GEMMA_NORMS,
    HEAD,
    HIDDEN,
    INNER,
    LAYERS,
    VISION,
    Model,
    Pair,
    Shapes,
    bytewise,
    decoder,
    embeddings,
    experts,
    half,
    network,
    pieces,
    renamed,
    sizes,
)

QWEN3VL_HEAD = 128  # as in all of them: the sections are made for it


def gemma3() -> Pair:
    """With a vision model, a long context, its positions under old keys, and three tokens too many."""
    vocabulary = pieces()
    weights = random_weights(embeddings(vocabulary, output=False) | decoder(*GEMMA_NORMS) | network())
    own = sizes("gemma3", context_length=131072, attention__sliding_window=8)
    del own["gemma3.attention.layer_norm_rms_epsilon"]
    old: Metadata = {"gemma3.rope.global.freq_base": 500_000.0, "gemma3.rope.local.freq_base": 20_000.0}
    seen: Metadata = {
        "gemma3.vision.block_count": 1,
        "gemma3.vision.embedding_length": VISION["hidden"],
        "gemma3.vision.feed_forward_length": VISION["inner"],
        "gemma3.vision.image_size": 56,
        "gemma3.vision.patch_size": VISION["patch"],
        "gemma3.vision.num_channels": 3,
        "gemma3.vision.attention.head_count": VISION["heads"],
        "gemma3.vision.attention.layer_norm_epsilon": 1e-6,
        "gemma3.mm.tokens_per_image": 4,
    }
    new: Metadata = {
        "gemma3.attention.layer_norm_rms_epsilon": 1e-6,
        "gemma3.rope.freq_base": 500_000.0,
        "gemma3.rope.freq_base_swa": 20_000.0,
        "gemma3.rope.scaling.type": "linear",
        "gemma3.rope.scaling.factor": 8.0,
    }
    vision = half(_gemma3_vision(), 2)
    return Pair(
        Model("gemma3", own | old | seen | pieces(extra=3), weights | vision),
        Model("gemma3", own | old | seen | new | vocabulary, weights),
        Model("clip", _gemma3_clip(), _gemma3_projector(vision)),
    )


def _gemma3_vision() -> Shapes:
    hidden, inner, patch = VISION["hidden"], VISION["inner"], VISION["patch"]
    shapes: Shapes = {
        "v.patch_embedding.weight": (hidden, 3, patch, patch),
        "v.patch_embedding.bias": (hidden,),
        "v.position_embedding.weight": (16, hidden),
        "v.post_layernorm.weight": (hidden,),
        "v.post_layernorm.bias": (hidden,),
        "mm.mm_input_projection.weight": (hidden, HIDDEN),
        "mm.mm_soft_emb_norm.weight": (hidden,),
    }
    parts = {"layer_norm1": (hidden,), "layer_norm2": (hidden,), "mlp.fc1": (inner, hidden), "mlp.fc2": (hidden, inner)}
    parts |= {f"attn_{part}": (hidden, hidden) for part in ("q", "k", "v", "output")}
    for name, shape in parts.items():
        shapes |= {f"v.blk.0.{name}.weight": shape, f"v.blk.0.{name}.bias": shape[:1]}
    return shapes


def _gemma3_projector(vision: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    wide = {"v.patch_embedding.weight", "v.position_embedding.weight"}
    values = {name: value.astype(np.float32) if name in wide else value for name, value in vision.items()}
    return renamed(
        values,
        ("v.patch_embedding", "v.patch_embd"),
        ("v.position_embedding", "v.position_embd"),
        ("v.post_layernorm", "v.post_ln"),
        ("layer_norm", "ln"),
        ("attn_output", "attn_out"),
        ("mlp.fc1", "ffn_down"),
        ("mlp.fc2", "ffn_up"),
        ("mm.mm_", "mm."),
    )


def _gemma3_clip() -> Metadata:
    return {
        "clip.projector_type": "gemma3",
        "clip.has_vision_encoder": True,
        "clip.use_gelu": True,
        "clip.vision.block_count": 1,
        "clip.vision.embedding_length": VISION["hidden"],
        "clip.vision.feed_forward_length": VISION["inner"],
        "clip.vision.image_size": 56,
        "clip.vision.patch_size": VISION["patch"],
        "clip.vision.attention.head_count": VISION["heads"],
        "clip.vision.attention.layer_norm_epsilon": 1e-6,
        "clip.vision.projection_dim": HIDDEN,
        "clip.vision.image_mean": [0.5, 0.5, 0.5],
        "clip.vision.image_std": [0.5, 0.5, 0.5],
    }


def qwen25vl() -> Pair:
    """With a vision model."""
    vocabulary = bytewise("qwen2")
    shapes = decoder("ffn_norm", biases=("attn_q", "attn_k", "attn_v")) | network()
    weights = random_weights(embeddings(vocabulary, output=True) | shapes)
    more: dict[str, Any] = {"rope__freq_base": 10_000.0, "rope__mrope_section": [2, 3, 3]}
    vision: dict[str, Any] = {
        "vision__attention__head_count": VISION["heads"],
        "vision__attention__layer_norm_epsilon": 1e-6,
        "vision__block_count": 1,
        "vision__embedding_length": VISION["hidden"],
        "vision__fullatt_block_indexes": [1, 3],
        "vision__num_channels": 3,
        "vision__patch_size": VISION["patch"],
        "vision__spatial_merge_size": 2,
        "vision__window_size": 112,
    }
    seen = half(_qwen25vl_vision(), 2)
    new = {"rope__dimension_sections": [2, 3, 3, 0]}
    return Pair(
        Model("qwen25vl", sizes("qwen25vl", **more, **vision) | vocabulary, weights | seen),
        Model("qwen2vl", sizes("qwen2vl", **more, **vision, **new) | vocabulary, weights),
        Model("clip", _qwen25vl_clip(), _qwen25vl_projector(seen)),
    )


def _qwen25vl_vision() -> Shapes:
    hidden, inner, patch = VISION["hidden"], VISION["inner"], VISION["patch"]
    shapes: Shapes = {f"v.patch_embd_{number}.weight": (hidden, 3, patch, patch) for number in (0, 1)}
    shapes |= {"v.merger.ln_q.weight": (hidden,)}
    for place, width in (("0", 4 * hidden), ("2", HIDDEN)):
        shapes |= {f"v.merger.mlp.{place}.weight": (width, 4 * hidden), f"v.merger.mlp.{place}.bias": (width,)}
    parts = {"ffn_gate": (inner, hidden), "ffn_up": (inner, hidden), "ffn_down": (hidden, inner)}
    parts |= {f"attn_{part}": (hidden, hidden) for part in ("q", "k", "v", "out")}
    for name, shape in parts.items():
        shapes |= {f"v.blk.0.{name}.weight": shape, f"v.blk.0.{name}.bias": shape[:1]}
    return shapes | {"v.blk.0.ln1.weight": (hidden,), "v.blk.0.ln2.weight": (hidden,)}


def _qwen25vl_projector(vision: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    values = {n: value.astype(np.float32) if "patch_embd" in n else value for n, value in vision.items()}
    return renamed(
        values,
        ("v.merger.ln_q", "v.post_ln"),
        ("v.merger.mlp", "mm"),
        ("v.patch_embd_0.weight", "v.patch_embd.weight"),
        ("v.patch_embd_1.weight", "v.patch_embd.weight.1"),
    )


def _qwen25vl_clip() -> Metadata:
    return {
        "clip.projector_type": "qwen2.5vl_merger",
        "clip.has_vision_encoder": True,
        "clip.use_silu": True,
        "clip.vision.attention.head_count": VISION["heads"],
        "clip.vision.attention.layer_norm_epsilon": 1e-6,
        "clip.vision.block_count": 1,
        "clip.vision.embedding_length": VISION["hidden"],
        "clip.vision.feed_forward_length": VISION["inner"],
        "clip.vision.image_size": 560,
        "clip.vision.image_mean": [0.48145466, 0.4578275, 0.40821073],
        "clip.vision.image_std": [0.26862954, 0.26130258, 0.27577711],
        "clip.vision.n_wa_pattern": 2,
        "clip.vision.num_channels": 3,
        "clip.vision.patch_size": VISION["patch"],
        "clip.vision.projection_dim": HIDDEN,
        "clip.vision.spatial_merge_size": 2,
        "clip.vision.window_size": 112,
    }


def mistral3() -> Pair:
    """With a vision model, and what it says of long contexts under old keys."""
    weights = random_weights(embeddings(bytewise(None), output=True) | decoder("ffn_norm") | network())
    more: dict[str, Any] = {"rope__freq_base": 1e6, "rope__dimension_count": HEAD, "rope__scaling__type": "yarn"}
    more |= {"rope__scaling__factor": 16.0, "rope__scaling__original_context_length": 64}
    old: dict[str, Any] = {"rope__scaling__beta_fast": 32.0, "rope__scaling__beta_slow": 2.0}
    old |= {"rope__scaling__mscale_all_dim": 0.5, "rope__scaling_beta": 0.1}
    new: dict[str, Any] = {"rope__scaling__yarn_beta_fast": 32.0, "rope__scaling__yarn_beta_slow": 2.0}
    new |= {"rope__scaling__yarn_log_multiplier": 0.5, "attention__temperature_scale": 0.1}
    vision: dict[str, Any] = {
        "spatial_merge_size": 2,
        "vision__attention__head_count": VISION["heads"],
        "vision__block_count": 1,
        "vision__embedding_length": VISION["hidden"],
        "vision__feed_forward_length": VISION["inner"],
        "vision__image_size": VISION["image"],
        "vision__num_channels": 3,
        "vision__patch_size": VISION["patch"],
        "vision__rope__freq_base": 10_000.0,
    }
    seen = half(_mistral3_vision(), 2)
    return Pair(
        Model("mistral3", sizes("mistral3", **more, **old, **vision) | bytewise("default"), weights | seen),
        Model("mistral3", sizes("mistral3", **more, **old, **vision, **new) | bytewise("tekken"), weights),
        Model("clip", _mistral3_clip(), _mistral3_projector(seen)),
    )


def _mistral3_vision() -> Shapes:
    hidden, inner, patch = VISION["hidden"], VISION["inner"], VISION["patch"]
    shapes: Shapes = {
        "v.patch_conv.weight": (hidden, 3, patch, patch),
        "v.encoder_norm.weight": (hidden,),
        "mm.linear_1.weight": (HIDDEN, hidden),
        "mm.linear_2.weight": (HIDDEN, HIDDEN),
        "mm.norm.weight": (hidden,),
        "mm.patch_merger.merging_layer.weight": (hidden, 4 * hidden),
    }
    parts: Shapes = {"attn_norm": (hidden,), "ffn_norm": (hidden,), "ffn_down": (hidden, inner)}
    parts |= {"ffn_gate": (inner, hidden), "ffn_up": (inner, hidden)}
    parts |= {f"attn_{part}": (hidden, hidden) for part in ("q", "k", "v", "output")}
    return shapes | {f"v.blk.0.{name}.weight": shape for name, shape in parts.items()}


def _mistral3_projector(vision: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    values = dict(vision)
    values["v.patch_conv.weight"] = vision["v.patch_conv.weight"].astype(np.float32)
    for part in ("q", "k"):
        name = f"v.blk.0.attn_{part}.weight"
        rows = vision[name].reshape(VISION["heads"], 2, -1, VISION["hidden"])
        values[name] = np.stack([rows[:, 0], rows[:, 1]], 2).reshape(vision[name].shape)
    values["v.token_embd.img_break"] = np.zeros(HIDDEN, np.float32)
    return renamed(
        values,
        ("v.patch_conv", "v.patch_embd"),
        ("v.encoder_norm", "v.pre_ln"),
        ("attn_output", "attn_out"),
        ("attn_norm", "ln1"),
        ("ffn_norm", "ln2"),
        ("mm.linear_", "mm."),
        ("mm.norm", "mm.input_norm"),
        ("patch_merger.merging_layer", "patch_merger"),
    )


def _mistral3_clip() -> Metadata:
    return {
        "clip.projector_type": "pixtral",
        "clip.has_vision_encoder": True,
        "clip.use_silu": True,
        "clip.rope.freq_base": 10_000.0,
        "clip.vision.attention.head_count": VISION["heads"],
        "clip.vision.attention.layer_norm_epsilon": 1e-5,
        "clip.vision.block_count": 1,
        "clip.vision.embedding_length": VISION["hidden"],
        "clip.vision.feed_forward_length": VISION["inner"],
        "clip.vision.image_size": VISION["image"],
        "clip.vision.image_mean": [0.48145467, 0.45782750, 0.40821072],
        "clip.vision.image_std": [0.26862955, 0.26130259, 0.27577710],
        "clip.vision.num_channels": 3,
        "clip.vision.patch_size": VISION["patch"],
        "clip.vision.projection_dim": HIDDEN,
        "clip.vision.spatial_merge_size": 2,
    }


def gemma4() -> Pair:
    """With experts, and a vocabulary under the wrong name."""
    norms = ("pre_ffw_norm_2", "post_ffw_norm_1", "post_ffw_norm_2")
    merges: Metadata = {"tokenizer.ggml.pre": "gemma4", "tokenizer.ggml.merges": ["a b"]}
    vocabulary = pieces() | merges
    shapes = decoder(*GEMMA_NORMS, *norms) | network() | {"rope_freqs.weight": (HEAD // 2,)}
    for layer in range(LAYERS):
        shapes |= {f"blk.{layer}.{name}.weight": shape for name, shape in experts().items()}
        shapes |= {f"blk.{layer}.ffn_gate_inp.scale": (HIDDEN,), f"blk.{layer}.ffn_down_exps.scale": (EXPERTS,)}
    weights = random_weights(embeddings(vocabulary, output=False) | shapes)
    more: dict[str, Any] = {"attention__sliding_window": 8, "embedding_length_per_layer_input": 0}
    more |= {"attention__sliding_window_pattern": [1, 1, 1, 1, 1, 0], "attention__shared_kv_layers": 0}
    more |= {"attention__key_length_swa": HEAD, "attention__value_length_swa": HEAD}
    more |= {"rope__dimension_count": HEAD, "rope__dimension_count_swa": HEAD, "rope__freq_base_swa": 10_000.0}
    more |= {"expert_count": EXPERTS, "expert_used_count": 2, "expert_feed_forward_length": INNER}
    own = sizes("gemma4", **more, rope__freq_base=1e6, vision__block_count=1)
    senses = half({"v.patch_embd.weight": (4, 3, 2, 2), "a.blk.0.attn_q.weight": (4, 4), "mm.x.weight": (4, 4)}, 2)
    old = renamed(weights, ("ffn_down_exps.scale", "ffn_gate_inp.per_expert_scale"))
    return Pair(
        Model("gemma4", own | vocabulary, old | senses),
        Model("gemma4", own | vocabulary | {"tokenizer.ggml.model": "gemma4"}, weights),
    )


def llama4() -> Pair:
    """With an expert that everybody asks."""
    vocabulary = bytewise("llama4")
    shapes = decoder("ffn_norm")
    shared: Shapes = {"ffn_gate_shexp": (INNER, HIDDEN), "ffn_up_shexp": (INNER, HIDDEN)}
    shared |= {"ffn_down_shexp": (HIDDEN, INNER)}
    for layer in range(LAYERS):
        shapes |= {f"blk.{layer}.{name}.weight": shape for name, shape in (experts() | shared).items()}
    weights = random_weights(embeddings(vocabulary, output=True) | shapes)
    more: dict[str, Any] = {"expert_count": EXPERTS, "expert_used_count": 1, "expert_feed_forward_length": INNER}
    more |= {"interleave_moe_layer_step": 1, "rope__freq_base": 500_000.0, "rope__dimension_count": HEAD}
    own = sizes("llama4", **more, vision__block_count=1) | vocabulary
    seen = half({"v.patch_embedding.weight": (4, 12), "mm.linear_1.weight": (4, 4)}, 2)
    return Pair(Model("llama4", own, weights | seen), Model("llama4", own, weights))


def qwen3vl() -> Pair:
    """With a vision model that speaks to three layers."""
    return _qwen3vl("qwen3vl", network(), {})


def qwen3vlmoe() -> Pair:
    """The same with experts."""
    shapes: Shapes = {}
    for layer in range(LAYERS):
        shapes |= {f"blk.{layer}.{name}.weight": shape for name, shape in experts().items()}
    more = {"expert_count": EXPERTS, "expert_used_count": 2, "expert_feed_forward_length": INNER}
    return _qwen3vl("qwen3vlmoe", shapes, more)


def _qwen3vl(name: str, networks: Shapes, more: dict[str, Any]) -> Pair:
    vocabulary = bytewise("qwen2")
    shapes = decoder("attn_q_norm", "attn_k_norm", "ffn_norm", head=QWEN3VL_HEAD) | networks
    weights = random_weights(embeddings(vocabulary, output=True) | shapes)
    own = more | {"attention__key_length": QWEN3VL_HEAD, "attention__value_length": QWEN3VL_HEAD}
    own |= {"rope__freq_base": 10_000.0, "vision__deepstack_visual_indexes": [1, 2, 3]}
    new: dict[str, Any] = {"rope__dimension_sections": [24, 20, 20, 0], "n_deepstack_layers": 3}
    seen = half({"v.blk.0.norm1.weight": (4,), "v.patch_embed.weight": (12, 2, 2, 2)}, 2)
    return Pair(
        Model(name, sizes(name, **own) | vocabulary, weights | seen),
        Model(name, sizes(name, **own, **new) | vocabulary, weights),
    )
