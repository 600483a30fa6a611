"""BERT and Nomic BERT in numpy, as `networks` has the decoders."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from tests.modelfile.convert.networks import Array, Config, Weights, rotate, silu, softmax

_erf = np.vectorize(math.erf)


def bert_mean(weights: Weights, config: Config, ids: Sequence[int]) -> Array:
    """The mean of the last states of a BERT."""
    named = {name: values.astype(np.float64) for name, values in weights.items() if values.dtype.kind == "f"}
    heads, eps = config["num_attention_heads"], config["layer_norm_eps"]
    states = named["embeddings.word_embeddings.weight"][list(ids)]
    states = states + named["embeddings.position_embeddings.weight"][: len(ids)]
    states = _norm(named, "embeddings.LayerNorm", states + named["embeddings.token_type_embeddings.weight"][0], eps)
    for layer in range(config["num_hidden_layers"]):
        name = f"encoder.layer.{layer}"
        parts = (
            _heads(_linear(named, f"{name}.attention.self.{part}", states), heads) for part in ("query", "key", "value")
        )
        mixed = _linear(named, f"{name}.attention.output.dense", _attend(*parts))
        states = _norm(named, f"{name}.attention.output.LayerNorm", states + mixed, eps)
        inner = _linear(named, f"{name}.intermediate.dense", states)
        inner = inner * (1 + _erf(inner / math.sqrt(2))) / 2
        states = _norm(named, f"{name}.output.LayerNorm", states + _linear(named, f"{name}.output.dense", inner), eps)
    return states.mean(0)


def nomic_mean(weights: Weights, config: Config, ids: Sequence[int]) -> Array:
    """The mean of the last states of a Nomic BERT, in its authors' form."""
    named = {name: values.astype(np.float64) for name, values in weights.items()}
    heads, eps = config["n_head"], config["layer_norm_epsilon"]
    head_dim = config["n_embd"] // heads
    angles = np.outer(np.arange(len(ids)), config["rotary_emb_base"] ** (-np.arange(0, head_dim, 2) / head_dim))
    states = named["embeddings.word_embeddings.weight"][list(ids)] + named["embeddings.token_type_embeddings.weight"][0]
    states = _norm(named, "emb_ln", states, eps)
    for layer in range(config["n_layer"]):
        name = f"encoder.layers.{layer}"
        query, key, value = (
            _heads(part, heads) for part in np.split(_linear(named, f"{name}.attn.Wqkv", states), 3, -1)
        )
        mixed = _linear(named, f"{name}.attn.out_proj", _attend(rotate(query, angles), rotate(key, angles), value))
        states = _norm(named, f"{name}.norm1", states + mixed, eps)
        inner = _linear(named, f"{name}.mlp.fc11", states) * silu(_linear(named, f"{name}.mlp.fc12", states))
        states = _norm(named, f"{name}.norm2", states + _linear(named, f"{name}.mlp.fc2", inner), eps)
    return states.mean(0)


def _linear(named: Mapping[str, Array], name: str, states: Array) -> Array:
    return states @ named[f"{name}.weight"].T + named.get(f"{name}.bias", np.zeros(1))


def _heads(states: Array, heads: int) -> Array:
    return states.reshape(len(states), heads, -1).swapaxes(0, 1)


def _attend(query: Array, key: Array, value: Array) -> Array:
    """Every token sees all tokens."""
    mixed = softmax(query @ key.swapaxes(1, 2) * query.shape[-1] ** -0.5) @ value
    return mixed.swapaxes(0, 1).reshape(query.shape[1], -1)


def _norm(named: Mapping[str, Array], name: str, states: Array, eps: float) -> Array:
    centred = states - states.mean(-1, keepdims=True)
    scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + eps)
    return scaled * named[f"{name}.weight"] + named[f"{name}.bias"]
