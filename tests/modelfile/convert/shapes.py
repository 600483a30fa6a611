"""Names and shapes of the tensors in Hugging Face's checkpoints, from their config.json."""

from __future__ import annotations

from typing import Any

Shapes = dict[str, tuple[int, ...]]


def decoder_shapes(config: dict[str, Any]) -> Shapes:
    """A Llama, Mistral, Mixtral, Qwen3 or Gemma."""
    hidden, vocabulary = config["hidden_size"], config["vocab_size"]
    shapes: Shapes = {"model.embed_tokens.weight": (vocabulary, hidden), "model.norm.weight": (hidden,)}
    for layer in range(config["num_hidden_layers"]):
        parts = _attention(config) | _network(config)
        shapes |= {f"model.layers.{layer}.{name}.weight": shape for name, shape in parts.items()}
    if "Gemma" not in config["architectures"][0] and not config.get("tie_word_embeddings"):
        shapes["lm_head.weight"] = (vocabulary, hidden)
    return shapes


def _attention(config: dict[str, Any]) -> Shapes:
    family, hidden = config["architectures"][0], config["hidden_size"]
    head_dim = config.get("head_dim") or hidden // config["num_attention_heads"]
    query, key = head_dim * config["num_attention_heads"], head_dim * config["num_key_value_heads"]
    shapes: Shapes = {
        "input_layernorm": (hidden,),
        "post_attention_layernorm": (hidden,),
        "self_attn.q_proj": (query, hidden),
        "self_attn.k_proj": (key, hidden),
        "self_attn.v_proj": (key, hidden),
        "self_attn.o_proj": (hidden, query),
    }
    if family.startswith(("Gemma2", "Gemma3")):
        shapes |= {"pre_feedforward_layernorm": (hidden,), "post_feedforward_layernorm": (hidden,)}
    if family.startswith(("Qwen3", "Gemma3")):
        shapes |= {"self_attn.q_norm": (head_dim,), "self_attn.k_norm": (head_dim,)}
    return shapes


def _network(config: dict[str, Any]) -> Shapes:
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    if "num_local_experts" in config:
        names = ("w1", "w3", "w2")
        return _experts("block_sparse_moe", names, config["num_local_experts"], hidden, inner)
    names = ("gate_proj", "up_proj", "down_proj")
    if "num_experts" in config:
        return _experts("mlp", names, config["num_experts"], hidden, config["moe_intermediate_size"])
    return {f"mlp.{name}": shape for name, shape in _gated(names, hidden, inner).items()}


def _experts(place: str, names: tuple[str, str, str], count: int, hidden: int, inner: int) -> Shapes:
    shapes: Shapes = {f"{place}.gate": (count, hidden)}
    for expert in range(count):
        parts = _gated(names, hidden, inner)
        shapes |= {f"{place}.experts.{expert}.{name}": shape for name, shape in parts.items()}
    return shapes


def _gated(names: tuple[str, str, str], hidden: int, inner: int) -> Shapes:
    gate, up, down = names
    return {gate: (inner, hidden), up: (inner, hidden), down: (hidden, inner)}


def nomic_shapes(config: dict[str, Any]) -> Shapes:
    """A Nomic BERT in its authors' form."""
    hidden, inner = config["n_embd"], config["n_inner"]
    shapes: Shapes = {
        "embeddings.word_embeddings.weight": (config["vocab_size"], hidden),
        "embeddings.token_type_embeddings.weight": (2, hidden),
    }
    norms = ["emb_ln"]
    for layer in range(config["n_layer"]):
        name = f"encoder.layers.{layer}"
        norms += [f"{name}.norm1", f"{name}.norm2"]
        shapes |= {
            f"{name}.attn.Wqkv.weight": (3 * hidden, hidden),
            f"{name}.attn.out_proj.weight": (hidden, hidden),
            f"{name}.mlp.fc11.weight": (inner, hidden),
            f"{name}.mlp.fc12.weight": (inner, hidden),
            f"{name}.mlp.fc2.weight": (hidden, inner),
        }
    return shapes | {f"{norm}.{part}": (hidden,) for norm in norms for part in ("weight", "bias")}
