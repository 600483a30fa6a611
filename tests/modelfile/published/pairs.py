"""The layouts, one pair each."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelfile.convert.metadata import Metadata
from tests.modelfile.convert.checkpoints import random_weights
from tests.modelfile.published.models import (
    HEAD,
    HEADS,
    HIDDEN,
    INNER,
    KV_HEADS,
    LAYERS,
    VISION,
    Model,
    Pair,
    Shapes,
    bytewise,
    decoder,
    embeddings,
    half,
    network,
    pieces,
    renamed,
    sizes,
)

EXPERTS = 4
HEADS_OF_LFM2 = [0 if layer == 1 else KV_HEADS for layer in range(LAYERS)]
_NORMS = ("attn_q_norm", "attn_k_norm", "post_attention_norm", "ffn_norm", "post_ffw_norm")


def gemma3() -> Pair:
    """With a vision model, a long context, its positions under old keys, and three tokens too many."""
    vocabulary = pieces()
    weights = random_weights(embeddings(vocabulary, output=False) | decoder(*_NORMS) | network())
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


def embeddinggemma() -> Pair:
    """With two matrices behind the pooling."""
    vocabulary = pieces()
    shapes = embeddings(vocabulary, output=False) | decoder(*_NORMS) | network()
    shapes |= {"dense_2.weight": (INNER, HIDDEN), "dense_3.weight": (HIDDEN, INNER)}
    weights = random_weights(shapes)
    more: dict[str, Any] = {"attention__sliding_window": 8, "rope__freq_base": 1e6, "pooling_type": 1}
    gone: Metadata = {"gemma3.attention.causal": False, "gemma3.attention.sliding_window_pattern": [1, 1]}
    dense: dict[str, Any] = {"dense_2_feat_in": HIDDEN, "dense_2_feat_out": INNER}
    dense |= {"dense_3_feat_in": INNER, "dense_3_feat_out": HIDDEN, "rope__freq_base_swa": 10_000.0}
    names = (("output_norm", "norm"), ("dense_2", "dense.0"), ("dense_3", "dense.1"))
    return Pair(
        Model("gemma3", sizes("gemma3", **more) | gone | vocabulary, renamed(weights, *names)),
        Model("gemma-embedding", sizes("gemma-embedding", **more, **dense) | vocabulary, weights),
    )


def gptoss() -> Pair:
    """With four experts, of which two are asked."""
    vocabulary = bytewise("gpt-4o")
    shapes = decoder("post_attention_norm", biases=("attn_q", "attn_k", "attn_v", "attn_output"))
    parts: Shapes = {"ffn_gate_inp": (EXPERTS, HIDDEN)}
    parts |= {"ffn_gate_exps": (EXPERTS, INNER, HIDDEN), "ffn_up_exps": (EXPERTS, INNER, HIDDEN)}
    parts |= {"ffn_down_exps": (EXPERTS, HIDDEN, INNER)}
    for layer in range(LAYERS):
        shapes[f"blk.{layer}.attn_sinks.weight"] = (HEADS,)
        for name, shape in parts.items():
            shapes |= {f"blk.{layer}.{name}.weight": shape, f"blk.{layer}.{name}.bias": shape[:-1]}
    weights = random_weights(embeddings(vocabulary, output=True) | shapes)
    more: dict[str, Any] = {"expert_count": EXPERTS, "expert_used_count": 2, "attention__sliding_window": 8}
    more |= {"rope__freq_base": 150_000.0, "rope__scaling__factor": 32.0}
    more |= {"rope__scaling__original_context_length": 64}
    new: dict[str, Any] = {"expert_feed_forward_length": INNER, "rope__scaling__type": "yarn"}
    names = (("attn_output", "attn_out"), ("attn_sinks.weight", "attn_sinks"), ("post_attention_norm", "ffn_norm"))
    return Pair(
        Model("gptoss", sizes("gptoss", **more) | bytewise("default"), renamed(weights, *names)),
        Model("gpt-oss", sizes("gpt-oss", **more, **new) | vocabulary, weights),
    )


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


def olmo3() -> Pair:
    """With norms over all heads, behind the layers."""
    vocabulary = bytewise("dbrx")
    shapes = decoder("post_attention_norm", "post_ffw_norm") | network()
    shapes = {name: shape for name, shape in shapes.items() if ".attn_norm." not in name}
    for layer in range(LAYERS):
        shapes |= {f"blk.{layer}.attn_q_norm.weight": (HEADS * HEAD,)}
        shapes |= {f"blk.{layer}.attn_k_norm.weight": (KV_HEADS * HEAD,)}
    weights = random_weights(embeddings(vocabulary, output=True) | shapes)
    more: dict[str, Any] = {"rope__freq_base": 500_000.0, "attention__sliding_window": 8}
    published, expected = (Model(name, sizes(name, **more) | vocabulary, weights) for name in ("olmo3", "olmo2"))
    return Pair(published, expected)


def lfm2() -> Pair:
    """With a layer of short convolutions."""
    shapes = decoder("attn_q_norm", "attn_k_norm", "ffn_norm") | network()
    shapes = {name: shape for name, shape in shapes.items() if not name.startswith("blk.1.attn_") or "norm." in name}
    del shapes["blk.1.attn_q_norm.weight"], shapes["blk.1.attn_k_norm.weight"]
    shapes |= {"blk.1.shortconv.conv.weight": (HIDDEN, 3), "blk.1.shortconv.in_proj.weight": (3 * HIDDEN, HIDDEN)}
    shapes |= {"blk.1.shortconv.out_proj.weight": (HIDDEN, HIDDEN)}
    shapes["token_embd_norm.weight"] = shapes.pop("output_norm.weight")
    weights = random_weights(embeddings(bytewise(None), output=False) | shapes)
    more: dict[str, Any] = {"rope__freq_base": 1e6, "shortconv__l_cache": 3, "attention__head_count_kv": HEADS_OF_LFM2}
    wrong = sizes("lfm2", **more, feed_forward_length=2 * INNER)
    return Pair(
        Model("lfm2", wrong | bytewise("default"), renamed(weights, ("token_embd_norm", "output_norm"))),
        Model("lfm2", sizes("lfm2", **more) | bytewise("lfm2"), weights),
    )


PAIRS = {make.__name__: make for make in (gemma3, embeddinggemma, gptoss, qwen25vl, mistral3, olmo3, lfm2)}
