"""Text-only models."""

from __future__ import annotations

from typing import Any

from modelfile.convert.writer import Metadata
from tests.modelfile.convert.checkpoints import random_weights
from tests.modelfile.published.models import (
    EXPERTS,
    GEMMA_NORMS,
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
    decoder,
    embeddings,
    experts,
    network,
    pieces,
    renamed,
    sizes,
    tokens_of,
)

WAYS, RANK, WIDE = 4, 64, 256  # as in all of the family Gemma 3n: no file says so
HEADS_OF_LFM2 = [0 if layer == 1 else KV_HEADS for layer in range(LAYERS)]


def embeddinggemma() -> Pair:
    """With two matrices behind the pooling."""
    vocabulary = pieces()
    shapes = embeddings(vocabulary, output=False) | decoder(*GEMMA_NORMS) | network()
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
    for layer in range(LAYERS):
        shapes[f"blk.{layer}.attn_sinks.weight"] = (HEADS,)
        for name, shape in experts().items():
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


def laguna() -> Pair:
    """With one dense layer, and experts in the others."""
    vocabulary = bytewise("default")
    shapes = decoder("attn_q_norm", "attn_k_norm", "ffn_norm")
    dense: Shapes = {"ffn_gate": (INNER, HIDDEN), "ffn_up": (INNER, HIDDEN), "ffn_down": (HIDDEN, INNER)}
    for layer in range(LAYERS):
        parts = dense if layer == 0 else experts() | {f"{name}_shexp": shape for name, shape in dense.items()}
        shapes |= {f"blk.{layer}.{name}.weight": shape for name, shape in parts.items()}
        shapes |= {f"blk.{layer}.attn_gate.weight": (HEADS, HIDDEN)}
        shapes |= {f"blk.{layer}.exp_probs_b.bias": (EXPERTS,)} if layer else {}
    weights = random_weights(embeddings(vocabulary, output=True) | shapes)
    more: dict[str, Any] = {"leading_dense_block_count": 1, "expert_count": EXPERTS, "expert_used_count": 2}
    more |= {"expert_feed_forward_length": INNER, "expert_shared_feed_forward_length": INNER}
    more |= {"attention__sliding_window": 8, "rope__freq_base": 500_000.0, "rope__dimension_count": HEAD // 2}
    old: dict[str, Any] = {"rope__swa__dimension_count": HEAD, "rope__swa__freq_base": 20_000.0}
    new: dict[str, Any] = {"rope__dimension_count_swa": HEAD, "rope__freq_base_swa": 20_000.0}
    return Pair(
        Model("laguna", sizes("laguna", **more, **old) | vocabulary, renamed(weights, ("attn_gate", "attn_g"))),
        Model("laguna", sizes("laguna", **more, **old, **new) | vocabulary, weights),
    )


def gemma3n() -> Pair:
    """With three tokens that one table of embeddings does not have."""
    vocabulary, more = pieces(), pieces(extra=3)
    parts: Shapes = {
        "inp_gate": (WIDE, HIDDEN),
        "proj": (HIDDEN, WIDE),
        "post_norm": (HIDDEN,),
        "altup_correct_coef": (WAYS, WAYS),
        "altup_correct_scale": (HIDDEN,),
        "altup_predict_coef": (WAYS * WAYS, WAYS),
        "altup_router": (WAYS, HIDDEN),
        "altup_router_norm": (HIDDEN,),
        "laurel_l": (RANK, HIDDEN),
        "laurel_r": (HIDDEN, RANK),
        "laurel_post_norm": (HIDDEN,),
    }
    shapes = embeddings(more, output=False) | decoder(*GEMMA_NORMS) | network()
    shapes |= {"altup_proj.weight": (WAYS - 1, HIDDEN, HIDDEN), "altup_unembd_proj.weight": (WAYS - 1, HIDDEN, HIDDEN)}
    shapes |= {"per_layer_token_embd.weight": (tokens_of(vocabulary), WIDE * LAYERS)}
    shapes |= {"per_layer_model_proj.weight": (WIDE * LAYERS, HIDDEN), "per_layer_proj_norm.weight": (WIDE,)}
    for layer in range(LAYERS):
        shapes |= {f"blk.{layer}.{name}.weight": shape for name, shape in parts.items()}
    weights = random_weights(shapes)
    own = sizes("gemma3n", attention__sliding_window=8, rope__freq_base=1e6, rope__freq_base_swa=10_000.0)
    wrong: Metadata = {"tokenizer.ggml.model": "gpt2", "tokenizer.ggml.token_type": [1] * tokens_of(more)}
    right: Metadata = {"tokenizer.ggml.token_type": [1] * 4 + [6] * 256 + [1] * 5}
    fewer = weights["token_embd.weight"][: tokens_of(vocabulary)]
    return Pair(
        Model("gemma3n", own | more | wrong, weights),
        Model("gemma3n", own | vocabulary | right, weights | {"token_embd.weight": fewer}),
    )
