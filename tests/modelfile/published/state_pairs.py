"""Recurrent and hybrid models."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from tests.modelfile.convert.checkpoints import random_weights
from tests.modelfile.published.models import (
    EXPERTS,
    HEAD,
    HEADS,
    HIDDEN,
    INNER,
    KV_HEADS,
    LAYERS,
    Model,
    Pair,
    Shapes,
    bytewise,
    embeddings,
    experts,
    half,
    network,
    renamed,
    sizes,
)

STATE, GROUPS, STEPS, KERNEL = 16, 2, 4, 4
KEYS, VALUES = STATE * GROUPS, STATE * STEPS
INTERVAL = 4  # layers from one with full attention to the next
QUERY_RANK, KEY_RANK, ROTATED = 24, 16, 8
NARROW = 32
SHARED: Shapes = {"ffn_gate_shexp": (INNER, HIDDEN), "ffn_up_shexp": (INNER, HIDDEN), "ffn_down_shexp": (HIDDEN, INNER)}


def qwen35() -> Pair:
    """With a vision model, a layer that guesses ahead, and numbers of heads layer by layer."""
    return _qwen35("qwen35", network())


def qwen35moe() -> Pair:
    """The same with experts."""
    return _qwen35("qwen35moe", _experts())


def _qwen35(name: str, networks: Shapes) -> Pair:
    vocabulary = bytewise("qwen35")
    steps: Shapes = {"ssm_beta": (STEPS, HIDDEN), "ssm_alpha": (STEPS, HIDDEN)}
    weights = random_weights(embeddings(vocabulary, output=True) | _layers(steps) | networks)
    own: dict[str, Any] = _state() | {"rope__dimension_sections": [3, 3, 2], "nextn_predict_layers": 1}
    new: dict[str, Any] = {"rope__dimension_sections": [3, 3, 2, 0], "nextn_predict_layers": 0}
    further = half({"mtp.fc.weight": (4, 4), "v.patch_embed.weight": (4, 4), "mm.x.weight": (4, 4)}, 2)
    old = sizes(name, **own, attention__head_count_kv=_heads()) | {f"{name}.block_count": LAYERS + 1}
    return Pair(
        Model(name, old | vocabulary, renamed(weights, ("ssm_dt.bias", "ssm_dt")) | further),
        Model(name, sizes(name, **(own | new)) | vocabulary, weights),
    )


def qwen3next() -> Pair:
    """With experts, and numbers of heads layer by layer."""
    vocabulary = bytewise("qwen2")
    steps: Shapes = {"ssm_ba": (2 * STEPS, HIDDEN)}
    weights = random_weights(embeddings(vocabulary, output=True) | _layers(steps) | _experts())
    own = _state()
    old = sizes("qwen3next", **own, attention__head_count_kv=_heads())
    return Pair(
        Model("qwen3next", old | vocabulary, renamed(weights, ("ssm_dt.bias", "ssm_dt"))),
        Model("qwen3next", sizes("qwen3next", **own) | vocabulary, weights),
    )


def _heads() -> list[int]:
    return [0 if _remembers(layer) else KV_HEADS for layer in range(LAYERS)]


def _remembers(layer: int) -> bool:
    return (layer + 1) % INTERVAL != 0


def _state() -> dict[str, Any]:
    return {
        "ssm__conv_kernel": KERNEL,
        "ssm__inner_size": VALUES,
        "ssm__state_size": STATE,
        "ssm__group_count": GROUPS,
        "ssm__time_step_rank": STEPS,
        "full_attention_interval": INTERVAL,
        "rope__dimension_count": HEAD,
        "rope__freq_base": 10_000.0,
        "expert_count": EXPERTS,
        "expert_used_count": 2,
        "expert_feed_forward_length": INNER,
        "expert_shared_feed_forward_length": INNER,
    }


def _layers(steps: Shapes) -> Shapes:
    """What the layers have besides their networks; `steps` are the tensors of how fast their state changes."""
    shapes: Shapes = {"output_norm.weight": (HIDDEN,)}
    state: Shapes = {
        "attn_qkv": (2 * KEYS + VALUES, HIDDEN),
        "attn_gate": (VALUES, HIDDEN),
        "ssm_conv1d": (2 * KEYS + VALUES, KERNEL),
        "ssm_norm": (STATE,),
        "ssm_out": (HIDDEN, VALUES),
    }
    full: Shapes = {
        "attn_q": (2 * HEADS * HEAD, HIDDEN),
        "attn_k": (KV_HEADS * HEAD, HIDDEN),
        "attn_v": (KV_HEADS * HEAD, HIDDEN),
        "attn_output": (HIDDEN, HEADS * HEAD),
        "attn_q_norm": (HEAD,),
        "attn_k_norm": (HEAD,),
    }
    for layer in range(LAYERS):
        parts = state | steps if _remembers(layer) else full
        parts |= {"attn_norm": (HIDDEN,), "post_attention_norm": (HIDDEN,)}
        shapes |= {f"blk.{layer}.{name}.weight": shape for name, shape in parts.items()}
        if _remembers(layer):
            shapes |= {f"blk.{layer}.ssm_dt.bias": (STEPS,), f"blk.{layer}.ssm_a": (STEPS,)}
    return shapes


def _experts() -> Shapes:
    parts = experts() | SHARED | {"ffn_gate_inp_shexp": (HIDDEN,)}
    return {f"blk.{layer}.{name}.weight": shape for layer in range(LAYERS) for name, shape in parts.items()}


def glm4moelite() -> Pair:
    """With one dense layer, and a shared expert in the others."""
    shapes: Shapes = {"output_norm.weight": (HIDDEN,)}
    attention: Shapes = {
        "attn_norm": (HIDDEN,),
        "attn_q_a": (QUERY_RANK, HIDDEN),
        "attn_q_a_norm": (QUERY_RANK,),
        "attn_q_b": (HEADS * HEAD, QUERY_RANK),
        "attn_kv_a_mqa": (KEY_RANK + ROTATED, HIDDEN),
        "attn_kv_a_norm": (KEY_RANK,),
        "attn_k_b": (HEADS, KEY_RANK, HEAD - ROTATED),
        "attn_v_b": (HEADS, HEAD, KEY_RANK),
        "attn_output": (HIDDEN, HEADS * HEAD),
        "ffn_norm": (HIDDEN,),
    }
    dense: Shapes = {"ffn_gate": (INNER, HIDDEN), "ffn_up": (INNER, HIDDEN), "ffn_down": (HIDDEN, INNER)}
    for layer in range(LAYERS):
        parts = attention | (dense if layer == 0 else experts() | SHARED)
        shapes |= {f"blk.{layer}.{name}.weight": shape for name, shape in parts.items()}
        shapes |= {f"blk.{layer}.exp_probs_b.bias": (EXPERTS,)} if layer else {}
    weights = random_weights(embeddings(bytewise(None), output=True) | shapes)
    own: dict[str, Any] = {"attention__kv_lora_rank": KEY_RANK, "attention__q_lora_rank": QUERY_RANK}
    own |= {"rope__dimension_count": ROTATED, "rope__freq_base": 1e6, "leading_dense_block_count": 1}
    own |= {"expert_count": EXPERTS, "expert_used_count": 2, "expert_shared_count": 1, "expert_gating_func": 2}
    own |= {"expert_feed_forward_length": INNER, "expert_weights_scale": 1.8, "expert_weights_norm": True}
    old = {"attention__key_length_mla": KEY_RANK + ROTATED, "attention__value_length_mla": KEY_RANK}
    new = {"attention__key_length_mla": HEAD, "attention__value_length_mla": HEAD, "attention__head_count_kv": 1}
    new |= {"attention__key_length": KEY_RANK + ROTATED, "attention__value_length": KEY_RANK}
    new |= {"expert_group_count": 1, "expert_group_used_count": 1}
    ends = {"tokenizer.ggml.eos_token_ids": [260, 1, 2]}
    said = {"tokenizer.ggml.eot_token_id": 1, "tokenizer.ggml.eom_token_id": 2}
    return Pair(
        Model("glm4moelite", sizes("glm4moelite", **own, **old) | bytewise("default") | ends, weights),
        Model("deepseek2", sizes("deepseek2", **own, **new) | bytewise("glm4") | ends | said, weights),
    )


def nemotron_h_moe() -> Pair:
    """With experts that work on fewer numbers, and a layer that guesses ahead."""
    vocabulary = bytewise("pixtral")
    shapes = _nemotron(_narrow_experts()) | embeddings(vocabulary, output=True)
    weights = random_weights(shapes)
    own = _nemotron_sizes() | {"expert_count": EXPERTS, "expert_used_count": 2}
    names = (("ffn_latent_down", "ffn_latent_in"), ("ffn_latent_up", "ffn_latent_out"))
    further = half({"mtp.layers.0.x.weight": (4, 4)}, 2)
    return Pair(
        Model("nemotron_h_moe", sizes("nemotron_h_moe", **own) | vocabulary, renamed(weights, *names) | further),
        Model("nemotron_h_moe", sizes("nemotron_h_moe", **own, moe_latent_size=NARROW) | vocabulary, weights),
    )


def nemotron_h_omni_moe() -> Pair:
    """With models that see and hear."""
    vocabulary = bytewise("pixtral")
    wide = {name: shape for name, shape in _narrow_experts(HIDDEN).items() if "latent" not in name}
    weights = random_weights(_nemotron(wide) | embeddings(vocabulary, output=True))
    own = _nemotron_sizes() | {"expert_count": EXPERTS, "expert_used_count": 2}
    return _omni("nemotron_h_moe", own, weights)


def nemotron_h_omni() -> Pair:
    """The same without experts."""
    vocabulary = bytewise("pixtral")
    dense: Shapes = {"ffn_up.weight": (INNER, HIDDEN), "ffn_down.weight": (HIDDEN, INNER)}
    weights = random_weights(_nemotron(dense) | embeddings(vocabulary, output=True))
    return _omni("nemotron_h", _nemotron_sizes(), weights)


def _omni(architecture: str, own: dict[str, Any], weights: dict[str, NDArray[Any]]) -> Pair:
    vocabulary = bytewise("pixtral")
    further = half({"v.x.weight": (4, 4), "a.x.weight": (4, 4), "mm.x.weight": (4, 4)}, 2)
    return Pair(
        Model("nemotron_h_omni", sizes("nemotron_h_omni", **own) | vocabulary, weights | further),
        Model(architecture, sizes(architecture, **own) | vocabulary, weights),
    )


def _nemotron(network: Shapes) -> Shapes:
    """Layers in turn: one with a state, one with this network, one with attention."""
    shapes: Shapes = {"output_norm.weight": (HIDDEN,)}
    inner = VALUES + 2 * GROUPS * STATE
    state: Shapes = {
        "ssm_in.weight": (VALUES + inner + STEPS, HIDDEN),
        "ssm_conv1d.weight": (inner, KERNEL),
        "ssm_conv1d.bias": (inner,),
        "ssm_dt.bias": (STEPS,),
        "ssm_a": (STEPS, 1),
        "ssm_d": (STEPS, 1),
        "ssm_norm.weight": (GROUPS, VALUES // GROUPS),
        "ssm_out.weight": (HIDDEN, VALUES),
    }
    attention: Shapes = {
        "attn_q.weight": (HEADS * HEAD, HIDDEN),
        "attn_k.weight": (KV_HEADS * HEAD, HIDDEN),
        "attn_v.weight": (KV_HEADS * HEAD, HIDDEN),
        "attn_output.weight": (HIDDEN, HEADS * HEAD),
    }
    for layer in range(LAYERS):
        parts = (state, network, attention)[layer % 3] | {"attn_norm.weight": (HIDDEN,)}
        shapes |= {f"blk.{layer}.{name}": shape for name, shape in parts.items()}
    return shapes


def _narrow_experts(width: int = NARROW) -> Shapes:
    return {
        "ffn_gate_inp.weight": (EXPERTS, HIDDEN),
        "exp_probs_b.bias": (EXPERTS,),
        "ffn_latent_down.weight": (width, HIDDEN),
        "ffn_latent_up.weight": (HIDDEN, width),
        "ffn_down_exps.weight": (EXPERTS, width, INNER),
        "ffn_up_exps.weight": (EXPERTS, INNER, width),
        "ffn_down_shexp.weight": (HIDDEN, INNER),
        "ffn_up_shexp.weight": (INNER, HIDDEN),
    }


def _nemotron_sizes() -> dict[str, Any]:
    return {
        "attention__head_count_kv": [KV_HEADS if layer % 3 == 2 else 0 for layer in range(LAYERS)],
        "attention__layer_norm_epsilon": 1e-5,
        "feed_forward_length": [INNER if layer % 3 == 1 else 0 for layer in range(LAYERS)],
        "ssm__conv_kernel": KERNEL,
        "ssm__inner_size": VALUES,
        "ssm__state_size": STATE,
        "ssm__group_count": GROUPS,
        "ssm__time_step_rank": STEPS,
        "expert_feed_forward_length": INNER,
        "expert_shared_feed_forward_length": INNER,
        "expert_shared_count": 1,
        "expert_weights_norm": True,
        "expert_weights_scale": 2.5,
    }
