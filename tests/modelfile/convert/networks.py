"""The networks of the families in numpy, from their descriptions: an independent opinion on what weights mean.

Weights have the names and the order of Hugging Face's checkpoints, settings those of config.json.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Weights = Mapping[str, NDArray[Any]]
Config = Mapping[str, Any]

INFINITY = -1e30


def decoder_logits(weights: Weights, config: Config, ids: Sequence[int]) -> Array:
    """The logits after the last token of a Llama, Mistral, Mixtral, Qwen or Gemma."""
    return _Decoder(weights, config).logits(ids)


class _Decoder:
    def __init__(self, weights: Weights, config: Config) -> None:
        self.weights = {name: values.astype(np.float64) for name, values in weights.items()}
        self.config = config
        self.gemma = "Gemma" in config["architectures"][0]
        self.post_norms = config["architectures"][0] in ("Gemma2ForCausalLM", "Gemma3ForCausalLM")
        self.head_dim = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]

    def logits(self, ids: Sequence[int]) -> Array:
        """The whole network."""
        states = self.weights["model.embed_tokens.weight"][list(ids)]
        if self.gemma:
            states = states * np.sqrt(self.config["hidden_size"])
        for layer in range(self.config["num_hidden_layers"]):
            states = self.layer(f"model.layers.{layer}", layer, states)
        last = self.norm("model.norm", states)[-1]
        output = self.weights.get("lm_head.weight", self.weights["model.embed_tokens.weight"])
        return soft_cap(output @ last, self.config.get("final_logit_softcapping"))

    def layer(self, name: str, index: int, states: Array) -> Array:
        """One layer: attention, then a network for each token, each added to what came in."""
        attended = self.attention(f"{name}.self_attn", index, self.norm(f"{name}.input_layernorm", states))
        if not self.post_norms:
            states = states + attended
            return states + self.network(name, self.norm(f"{name}.post_attention_layernorm", states))
        states = states + self.norm(f"{name}.post_attention_layernorm", attended)
        inner = self.network(name, self.norm(f"{name}.pre_feedforward_layernorm", states))
        return states + self.norm(f"{name}.post_feedforward_layernorm", inner)

    def norm(self, name: str, states: Array) -> Array:
        """Root mean square norm; Gemma's weights are what is added to 1."""
        scale = self.weights[f"{name}.weight"] + (1 if self.gemma else 0)
        return states / np.sqrt((states**2).mean(-1, keepdims=True) + self.config["rms_norm_eps"]) * scale

    def attention(self, name: str, index: int, states: Array) -> Array:
        """Causal attention with grouped keys and values."""
        heads, groups = self.config["num_attention_heads"], self.config["num_key_value_heads"]
        query, key, value = (
            self.project(f"{name}.{part}_proj", states, count)
            for part, count in (("q", heads), ("k", groups), ("v", groups))
        )
        if f"{name}.q_norm.weight" in self.weights:
            query, key = self.norm(f"{name}.q_norm", query), self.norm(f"{name}.k_norm", key)
        frequencies, size = self.frequencies(index)
        angles = np.outer(np.arange(len(states)), frequencies)
        query, key = rotate(query, angles) * size, rotate(key, angles) * size
        key, value = np.repeat(key, heads // groups, 0), np.repeat(value, heads // groups, 0)
        scale = self.config.get("query_pre_attn_scalar", self.head_dim) ** -0.5
        scores = soft_cap(query @ key.swapaxes(1, 2) * scale, self.config.get("attn_logit_softcapping"))
        mixed = softmax(np.where(self.visible(index, len(states)), scores, INFINITY)) @ value
        return mixed.swapaxes(0, 1).reshape(len(states), -1) @ self.weights[f"{name}.o_proj.weight"].T

    def project(self, name: str, states: Array, heads: int) -> Array:
        """A matrix with a bias if there is one, as (head, token, number)."""
        out = states @ self.weights[f"{name}.weight"].T + self.weights.get(f"{name}.bias", np.zeros(1))
        return out.reshape(len(states), heads, self.head_dim).swapaxes(0, 1)

    def sliding(self, index: int) -> bool:
        """Whether a layer looks back only so far."""
        kinds = self.config.get("layer_types")
        return bool(kinds) and kinds[index] == "sliding_attention"

    def visible(self, index: int, length: int) -> NDArray[np.bool_]:
        """Which token sees which."""
        distance = np.arange(length)[:, None] - np.arange(length)[None]
        window = self.config["sliding_window"] if self.sliding(index) else length
        return (distance >= 0) & (distance < window)

    def frequencies(self, index: int) -> tuple[Array, float]:
        """Turns per position of each pair of numbers, and by how much rotated numbers grow."""
        rope = self.config.get("rope_parameters") or self.config.get("rope_scaling") or {}
        rope = rope.get("sliding_attention" if self.sliding(index) else "full_attention", rope)
        theta = rope.get("rope_theta") or self.config["rope_theta"]
        if self.sliding(index) and "rope_local_base_freq" in self.config:
            rope, theta = {}, self.config["rope_local_base_freq"]
        plain = theta ** (-np.arange(0, self.head_dim, 2) / self.head_dim)
        match rope.get("rope_type"):
            case "linear":
                return plain / rope["factor"], 1.0
            case "llama3":
                return np.array([llama3(frequency, rope) for frequency in plain]), 1.0
            case "longrope":
                original = self.config["original_max_position_embeddings"]
                growth = np.log(self.config["max_position_embeddings"] / original) / np.log(original)
                return plain / np.array(rope["long_factor"]), float(np.sqrt(1 + growth))
        return plain, 1.0

    def network(self, name: str, states: Array) -> Array:
        """The network of a layer, or the best of its experts for each token."""
        router = next(
            (n for n in (f"{name}.mlp.gate", f"{name}.block_sparse_moe.gate") if f"{n}.weight" in self.weights), ""
        )
        if not router:
            return self.gated(states, *(f"{name}.mlp.{part}_proj" for part in ("gate", "up", "down")))
        experts = router.removesuffix(".gate") + ".experts"
        parts = ("w1", "w3", "w2") if "block_sparse_moe" in router else ("gate_proj", "up_proj", "down_proj")
        chances = softmax(states @ self.weights[f"{router}.weight"].T)
        out = np.zeros_like(states)
        for token, chance in enumerate(chances):
            best = np.argsort(-chance)[: self.config["num_experts_per_tok"]]
            for expert in best:
                one = self.gated(states[token], *(f"{experts}.{expert}.{part}" for part in parts))
                out[token] += one * chance[expert] / chance[best].sum()
        return out

    def gated(self, states: Array, gate: str, up: str, down: str) -> Array:
        """A network whose inner numbers are gated."""
        active = gelu_tanh if self.gemma else silu
        inner = active(states @ self.weights[f"{gate}.weight"].T) * (states @ self.weights[f"{up}.weight"].T)
        return inner @ self.weights[f"{down}.weight"].T


def llama3(frequency: float, rope: Mapping[str, Any]) -> float:
    """A frequency as Llama 3.1 stretches it: slow ones by the factor, those between by a mixture."""
    turns = rope["original_max_position_embeddings"] * frequency / (2 * np.pi)
    share = np.clip((turns - rope["low_freq_factor"]) / (rope["high_freq_factor"] - rope["low_freq_factor"]), 0, 1)
    return float((1 - share) * frequency / rope["factor"] + share * frequency)


def rotate(values: Array, angles: Array) -> Array:
    """Pairs of the first and the second half of each head, turned by their angles."""
    first, second = np.split(values, 2, -1)
    cos, sin = np.cos(angles), np.sin(angles)
    return np.concatenate([first * cos - second * sin, second * cos + first * sin], -1)


def softmax(scores: Array) -> Array:
    """Shares that add up to 1 along the last dimension."""
    powers = np.exp(scores - scores.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def soft_cap(values: Array, cap: float | None) -> Array:
    """Values that approach the cap, if there is one."""
    return values if cap is None else cap * np.tanh(values / cap)


def silu(values: Array) -> Array:
    """x times its logistic function."""
    return values / (1 + np.exp(-values))


def gelu_tanh(values: Array) -> Array:
    """x times the normal distribution's share below it, by a hyperbolic tangent."""
    return values / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (values + 0.044715 * values**3)))
