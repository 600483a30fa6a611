"""GGUF files of well-known models without their weights: all tensors in their shapes and types, in sparse files.

Shapes are written as llama.cpp has them, the row's length first.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Type

Shapes = dict[str, tuple[int, ...]]


@dataclass
class Sparse:
    """A model: its metadata, below its architecture, and its tensors. `kinds` are types by parts of tensors' names."""

    architecture: str
    metadata: dict[str, Any]
    shapes: Shapes
    kind: Type = Type.Q4_K
    kinds: dict[str, Type] = field(default_factory=dict)

    def write(self, path: Path) -> Path:
        """Write the header, and make the file as long as with its weights."""
        writer = gguf.GGUFWriter(path, self.architecture)
        writer.add_string("tokenizer.ggml.model", "no_vocab")
        writer.add_uint32(f"{self.architecture}.vocab_size", self.shapes["token_embd.weight"][1])
        for key, value in self.metadata.items():
            _add(writer, f"{self.architecture}.{key.replace('__', '.')}", value)
        length = 0
        for name, shape in self.shapes.items():
            kind = self._type(name, shape)
            size = _bytes(kind, shape)
            length += -(-size // writer.data_alignment) * writer.data_alignment
            writer.add_tensor_info(name, shape[::-1], np.dtype(np.float32), size, raw_dtype=kind)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        writer.close()
        with path.open("r+b") as file:
            start = file.seek(0, 2)
            file.truncate(-(-start // writer.data_alignment) * writer.data_alignment + length)
        return path

    def _type(self, name: str, shape: tuple[int, ...]) -> Type:
        for part, kind in self.kinds.items():
            if part in name:
                return kind
        if len(shape) == 1 or not name.endswith(".weight") or "conv" in name or "gate_inp" in name:
            return Type.F32
        return self.kind if shape[0] % gguf.GGML_QUANT_SIZES[self.kind][0] == 0 else Type.F16


def _bytes(kind: Type, shape: tuple[int, ...]) -> int:
    block, size = gguf.GGML_QUANT_SIZES[kind]
    return shape[0] // block * size * math.prod(shape[1:])


def _add(writer: gguf.GGUFWriter, key: str, value: Any) -> None:
    match value:
        case bool():
            writer.add_bool(key, value)
        case int():
            writer.add_uint32(key, value)
        case float():
            writer.add_float32(key, value)
        case str():
            writer.add_string(key, value)
        case _:
            writer.add_array(key, value)


@dataclass
class Decoder:
    """The sizes of a transformer: `width` is the embedding length, `inner` that of a feed-forward network."""

    layers: int
    width: int
    inner: int
    heads: int
    kv_heads: int
    head: int
    vocabulary: int
    context: int = 131_072
    tied: bool = False

    def metadata(self, **more: Any) -> dict[str, Any]:
        """Its sizes, and more."""
        return {
            "context_length": self.context,
            "embedding_length": self.width,
            "block_count": self.layers,
            "feed_forward_length": self.inner,
            "attention.head_count": self.heads,
            "attention.head_count_kv": self.kv_heads,
            "attention.key_length": self.head,
            "attention.value_length": self.head,
            "attention.layer_norm_rms_epsilon": 1e-6,
            "rope.dimension_count": self.head,
        } | more

    def embeddings(self) -> Shapes:
        """What is no layer's."""
        shapes: Shapes = {"token_embd.weight": (self.width, self.vocabulary), "output_norm.weight": (self.width,)}
        return shapes if self.tied else shapes | {"output.weight": (self.width, self.vocabulary)}

    def attention(self, *, gate: int = 1) -> Shapes:
        """One layer's attention."""
        return {
            "attn_norm.weight": (self.width,),
            "attn_q.weight": (self.width, gate * self.heads * self.head),
            "attn_k.weight": (self.width, self.kv_heads * self.head),
            "attn_v.weight": (self.width, self.kv_heads * self.head),
            "attn_output.weight": (self.heads * self.head, self.width),
        }

    def head_norms(self) -> Shapes:
        """Norms of queries and keys."""
        return {"attn_q_norm.weight": (self.head,), "attn_k_norm.weight": (self.head,)}

    def network(self) -> Shapes:
        """One layer's feed-forward network."""
        wide, narrow = (self.width, self.inner), (self.inner, self.width)
        return {"ffn_gate.weight": wide, "ffn_up.weight": wide, "ffn_down.weight": narrow}

    def experts(self, count: int, inner: int) -> Shapes:
        """One layer's experts."""
        wide = (self.width, inner, count)
        shapes: Shapes = {"ffn_gate_exps.weight": wide, "ffn_up_exps.weight": wide}
        shapes |= {"ffn_gate_inp.weight": (self.width, count), "ffn_down_exps.weight": (inner, self.width, count)}
        return shapes

    def repeated(self, *parts: Shapes) -> Shapes:
        """All layers alike."""
        return {f"blk.{i}.{name}": shape for i in range(self.layers) for part in parts for name, shape in part.items()}

    def norm(self, *names: str) -> Shapes:
        """Norms of a layer."""
        return {f"{name}.weight": (self.width,) for name in names}


def llama(sizes: Decoder) -> Sparse:
    """Llama and Mistral."""
    shapes = sizes.embeddings() | sizes.repeated(sizes.attention(), sizes.network(), sizes.norm("ffn_norm"))
    return Sparse("llama", sizes.metadata(rope__freq_base=500_000.0), shapes)


def qwen3(sizes: Decoder) -> Sparse:
    """Qwen3 without experts."""
    parts = sizes.attention(), sizes.head_norms(), sizes.network(), sizes.norm("ffn_norm")
    return Sparse("qwen3", sizes.metadata(rope__freq_base=1e6), sizes.embeddings() | sizes.repeated(*parts))


def qwen3moe(sizes: Decoder, experts: int, inner: int) -> Sparse:
    """Qwen3 with experts, of which eight are asked."""
    parts = sizes.attention(), sizes.head_norms(), sizes.experts(experts, inner), sizes.norm("ffn_norm")
    own: dict[str, Any] = {"expert_count": experts, "expert_used_count": 8, "expert_feed_forward_length": inner}
    metadata = sizes.metadata(rope__freq_base=1e6, **own)
    return Sparse("qwen3moe", metadata, sizes.embeddings() | sizes.repeated(*parts))


def gemma3(sizes: Decoder, window: int) -> Sparse:
    """Gemma 3: five of six layers see a window."""
    norms = sizes.norm("post_attention_norm", "ffn_norm", "post_ffw_norm")
    parts = sizes.attention(), sizes.head_norms(), sizes.network(), norms
    metadata = sizes.metadata(attention__sliding_window=window, rope__freq_base=1e6)
    return Sparse("gemma3", metadata, sizes.embeddings() | sizes.repeated(*parts))


def gptoss(layers: int, experts: int) -> Sparse:
    """gpt-oss: every second layer sees a window; experts in MXFP4."""
    sizes = Decoder(layers, 2880, 2880, 64, 8, 64, 201_088)
    attention = sizes.attention() | {"attn_sinks.weight": (64,)} | sizes.norm("post_attention_norm")
    biases = {"attn_q.bias": (4096,), "attn_k.bias": (512,), "attn_v.bias": (512,), "attn_output.bias": (2880,)}
    moe = sizes.experts(experts, 2880) | {"ffn_gate_inp.bias": (experts,)}
    moe |= {f"ffn_{name}_exps.bias": (2880, experts) for name in ("gate", "up", "down")}
    own: dict[str, Any] = {"expert_count": experts, "expert_used_count": 4, "expert_feed_forward_length": 2880}
    own |= {"attention__sliding_window": 128, "rope__freq_base": 150_000.0}
    shapes = sizes.embeddings() | sizes.repeated(attention, biases, moe)
    return Sparse("gpt-oss", sizes.metadata(**own), shapes, Type.Q8_0, {"exps.weight": Type.MXFP4})


def deepseek_v3() -> Sparse:
    """DeepSeek V3: multi-head latent attention, 256 experts behind three dense layers."""
    sizes = Decoder(61, 7168, 18_432, 128, 1, 576, 129_280, 163_840)
    rank, query_rank, rope, nope, value = 512, 1536, 64, 128, 128
    attention: Shapes = {
        "attn_norm.weight": (7168,),
        "attn_q_a_norm.weight": (query_rank,),
        "attn_kv_a_norm.weight": (rank,),
        "attn_q_a.weight": (7168, query_rank),
        "attn_q_b.weight": (query_rank, 128 * (nope + rope)),
        "attn_kv_a_mqa.weight": (7168, rank + rope),
        "attn_k_b.weight": (nope, rank, 128),
        "attn_v_b.weight": (rank, value, 128),
        "attn_output.weight": (128 * value, 7168),
        "ffn_norm.weight": (7168,),
    }
    moe = sizes.experts(256, 2048) | {"exp_probs_b.bias": (256,)}
    moe |= {"ffn_gate_shexp.weight": (7168, 2048), "ffn_up_shexp.weight": (7168, 2048)}
    moe |= {"ffn_down_shexp.weight": (2048, 7168)}
    shapes = sizes.embeddings() | sizes.repeated(attention)
    for layer in range(61):
        shapes |= {f"blk.{layer}.{n}": shape for n, shape in (sizes.network() if layer < 3 else moe).items()}
    own: dict[str, Any] = {"attention__q_lora_rank": query_rank, "attention__kv_lora_rank": rank}
    own |= {"attention__key_length_mla": nope + rope, "attention__value_length_mla": value}
    own |= {"expert_count": 256, "expert_used_count": 8, "expert_shared_count": 1, "expert_feed_forward_length": 2048}
    own |= {"leading_dense_block_count": 3, "expert_gating_func": 2, "expert_weights_scale": 2.5}
    metadata = sizes.metadata(**own) | {"attention.value_length": rank, "rope.dimension_count": rope}
    return Sparse("deepseek2", metadata, shapes)


def qwen3next() -> Sparse:
    """Qwen3-Next: three of four layers have a recurrent state."""
    sizes = Decoder(48, 2048, 5120, 16, 2, 256, 151_936, 262_144)
    keys, values, state = 16, 32, 128
    convolved = 2 * keys * state + values * state
    linear: Shapes = {
        "attn_norm.weight": (2048,),
        "attn_qkv.weight": (2048, convolved),
        "attn_gate.weight": (2048, values * state),
        "ssm_conv1d.weight": (4, convolved),
        "ssm_dt.bias": (values,),
        "ssm_a": (values,),
        "ssm_ba.weight": (2048, 2 * values),
        "ssm_norm.weight": (state,),
        "ssm_out.weight": (values * state, 2048),
    }
    full = sizes.attention(gate=2) | sizes.head_norms()
    moe = sizes.experts(512, 512) | sizes.norm("post_attention_norm") | {"ffn_gate_inp_shexp.weight": (2048,)}
    moe |= {"ffn_gate_shexp.weight": (2048, 512), "ffn_up_shexp.weight": (2048, 512)}
    moe |= {"ffn_down_shexp.weight": (512, 2048)}
    shapes = sizes.embeddings()
    for layer in range(48):
        parts = (linear if (layer + 1) % 4 else full) | moe
        shapes |= {f"blk.{layer}.{name}": shape for name, shape in parts.items()}
    own: dict[str, Any] = {"expert_count": 512, "expert_used_count": 10, "expert_feed_forward_length": 512}
    own |= {"expert_shared_feed_forward_length": 512, "full_attention_interval": 4, "rope__freq_base": 1e7}
    own |= {"ssm__conv_kernel": 4, "ssm__inner_size": values * state, "ssm__state_size": state}
    own |= {"ssm__time_step_rank": values, "ssm__group_count": keys, "rope__dimension_count": 64}
    return Sparse("qwen3next", sizes.metadata() | {k.replace("__", "."): v for k, v in own.items()}, shapes)


def mamba(layers: int, width: int) -> Sparse:
    """Mamba: nothing but recurrent states."""
    inner, rank, state = 2 * width, width // 16, 16
    layer: Shapes = {
        "attn_norm.weight": (width,),
        "ssm_in.weight": (width, 2 * inner),
        "ssm_conv1d.weight": (4, inner),
        "ssm_conv1d.bias": (inner,),
        "ssm_x.weight": (inner, rank + 2 * state),
        "ssm_dt.weight": (rank, inner),
        "ssm_dt.bias": (inner,),
        "ssm_a": (state, inner),
        "ssm_d": (inner,),
        "ssm_out.weight": (inner, width),
    }
    sizes = Decoder(layers, width, 0, 0, 0, 0, 50_280, 1 << 20, tied=True)
    own = {"ssm.conv_kernel": 4, "ssm.inner_size": inner, "ssm.state_size": state, "ssm.time_step_rank": rank}
    metadata = {key: value for key, value in sizes.metadata(**own).items() if value}
    return Sparse(
        "mamba",
        metadata | {"attention.head_count": 0, "feed_forward_length": 0},
        sizes.embeddings() | sizes.repeated(layer),
        Type.Q8_0,
    )


def _qwen(layers: int, width: int, inner: int, heads: int, kv_heads: int = 8, *, tied: bool = False) -> Sparse:
    return qwen3(Decoder(layers, width, inner, heads, kv_heads, 128, 151_936, 40_960, tied))


KNOWN: dict[str, Callable[[], Sparse]] = {
    "llama-3.2-1b": lambda: llama(Decoder(16, 2048, 8192, 32, 8, 64, 128_256, tied=True)),
    "llama-3.1-8b": lambda: llama(Decoder(32, 4096, 14_336, 32, 8, 128, 128_256)),
    "llama-3.1-70b": lambda: llama(Decoder(80, 8192, 28_672, 64, 8, 128, 128_256)),
    "mistral-small-24b": lambda: llama(Decoder(40, 5120, 32_768, 32, 8, 128, 131_072, 32_768)),
    "qwen3-0.6b": lambda: _qwen(28, 1024, 3072, 16, tied=True),
    "qwen3-1.7b": lambda: _qwen(28, 2048, 6144, 16, tied=True),
    "qwen3-4b": lambda: _qwen(36, 2560, 9728, 32, tied=True),
    "qwen3-8b": lambda: _qwen(36, 4096, 12_288, 32),
    "qwen3-14b": lambda: _qwen(40, 5120, 17_408, 40),
    "qwen3-32b": lambda: _qwen(64, 5120, 25_600, 64),
    "qwen3-30b-a3b": lambda: qwen3moe(Decoder(48, 2048, 6144, 32, 4, 128, 151_936, 40_960), 128, 768),
    "qwen3-235b-a22b": lambda: qwen3moe(Decoder(94, 4096, 12_288, 64, 4, 128, 151_936, 40_960), 128, 1536),
    "gemma-3-1b": lambda: gemma3(Decoder(26, 1152, 6912, 4, 1, 256, 262_144, 32_768, tied=True), 512),
    "gemma-3-4b": lambda: gemma3(Decoder(34, 2560, 10_240, 8, 4, 256, 262_208, tied=True), 1024),
    "gemma-3-12b": lambda: gemma3(Decoder(48, 3840, 15_360, 16, 8, 256, 262_208, tied=True), 1024),
    "gemma-3-27b": lambda: gemma3(Decoder(62, 5376, 21_504, 32, 16, 128, 262_208, tied=True), 1024),
    "gpt-oss-20b": lambda: gptoss(24, 32),
    "gpt-oss-120b": lambda: gptoss(36, 128),
    "deepseek-v3": deepseek_v3,
    "qwen3-next-80b-a3b": qwen3next,
    "mamba-2.8b": lambda: mamba(64, 2560),
}
"""Well-known models by name."""
