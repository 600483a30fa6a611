"""Random checkpoints of the other families through llama.cpp, against the same networks in numpy."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGUFReader

from modelfile.convert import convert
from tests.modelfile.convert.checkpoints import (
    DATA,
    Weights,
    files_in,
    random_weights,
    rounded,
    write_byte_tokenizer,
    write_json,
    write_safetensors,
    write_sharded,
)
from tests.modelfile.convert.encoders import nomic_mean
from tests.modelfile.convert.llamacpp import cosine, embedding, last_logits
from tests.modelfile.convert.networks import decoder_logits
from tests.modelfile.convert.shapes import decoder_shapes, nomic_shapes
from tests.modelfile.convert.test_golden import metadata, quiet

IDS = [int(id) for id in np.random.default_rng(0).integers(10, 100, 40)]
SIZES: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "rms_norm_eps": 1e-5,
}
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
GEMMA3 = {
    "architectures": ["Gemma3ForCausalLM"],
    "num_hidden_layers": 7,
    "head_dim": 32,
    "query_pre_attn_scalar": 32,
    "sliding_window": 8,
    "layer_types": ["sliding_attention"] * 5 + ["full_attention", "sliding_attention"],
}
CASES: dict[str, dict[str, Any]] = {
    "mistral": {"architectures": ["MistralForCausalLM"], "rope_theta": 5000.0, "head_dim": 24, "sliding_window": None},
    "mixtral": {
        "architectures": ["MixtralForCausalLM"],
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e6},
        "num_local_experts": 4,
        "num_experts_per_tok": 2,
    },
    "llama3": {"architectures": ["LlamaForCausalLM"], "rope_theta": 10000.0, "rope_scaling": LLAMA3},
    "llama3-newer": {"architectures": ["LlamaForCausalLM"], "rope_parameters": {"rope_theta": 10000.0, **LLAMA3}},
    "llama-linear": {
        "architectures": ["LlamaForCausalLM"],
        "rope_theta": 10000.0,
        "rope_scaling": {"rope_type": "linear", "factor": 4.0},
    },
    "qwen3": {
        "architectures": ["Qwen3ForCausalLM"],
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e6},
        "head_dim": 32,
        "tie_word_embeddings": True,
    },
    "qwen3moe": {
        "architectures": ["Qwen3MoeForCausalLM"],
        "rope_theta": 1e6,
        "head_dim": 16,
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 48,
        "norm_topk_prob": True,
    },
    "gemma2": {
        "architectures": ["Gemma2ForCausalLM"],
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
        "head_dim": 32,
        "query_pre_attn_scalar": 32,
        "attn_logit_softcapping": 4.0,
        "final_logit_softcapping": 6.0,
        "sliding_window": 8,
        "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
    },
    "gemma3": GEMMA3
    | {
        "rope_parameters": {
            "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
            "sliding_attention": {"rope_type": "default", "rope_theta": 500.0},
        }
    },
    "gemma3-older": GEMMA3
    | {
        "rope_theta": 1e6,
        "rope_local_base_freq": 500.0,
        "rope_scaling": {"rope_type": "linear", "factor": 8.0},
    },
}
LONG = {
    "architectures": ["Phi3ForCausalLM"],
    "original_max_position_embeddings": 16,
    "rope_theta": 10000.0,
    "rope_scaling": {
        "type": "longrope",
        "rope_type": "longrope",
        "short_factor": [1.0] * 8,
        "long_factor": [1.0, 1.1, 1.3, 1.7, 2.0, 3.0, 5.0, 8.0],
    },
}
DTYPES = {"mistral": "bfloat16", "mixtral": "float16", "qwen3": "bfloat16"}
NOMIC = {
    "architectures": ["NomicBertModel"],
    "activation_function": "swiglu",
    "causal": False,
    "layer_norm_epsilon": 1e-12,
    "max_trained_positions": 2048,
    "mlp_fc1_bias": False,
    "mlp_fc2_bias": False,
    "n_embd": 64,
    "n_head": 4,
    "n_inner": 96,
    "n_layer": 2,
    "n_positions": 8192,
    "prenorm": False,
    "qkv_proj_bias": False,
    "rotary_emb_base": 1000,
    "rotary_emb_fraction": 1.0,
    "rotary_emb_interleaved": False,
    "rotary_emb_scale_base": None,
    "type_vocab_size": 2,
    "vocab_size": 109,
}
NEWER_NOMIC = {
    "architectures": ["NomicBertModel"],
    "hidden_act": "silu",
    "hidden_size": 64,
    "intermediate_size": 96,
    "layer_norm_eps": 1e-12,
    "max_position_embeddings": 2048,
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1000},
    "type_vocab_size": 2,
    "vocab_size": 109,
}
NEWER_NOMIC_NAMES = {
    "layers.": "encoder.layers.",
    "embeddings.LayerNorm": "emb_ln",
    "self_attn.o_proj": "attn.out_proj",
    "up_proj": "fc11",
    "gate_proj": "fc12",
    "down_proj": "fc2",
    "post_attention_layernorm": "norm1",
    "post_mlp_layernorm": "norm2",
}


def write_tokenizer(folder: Path, name: str) -> int:
    """A tokenizer such as the family has; the size of its vocabulary."""
    if name.startswith(("llama", "qwen")):
        return write_byte_tokenizer(folder)
    shutil.copy(DATA / "gemma/ckpt/tokenizer.model", folder)
    return 600


def write_decoder(folder: Path, name: str) -> tuple[dict[str, Any], Weights]:
    """The checkpoint of a case; its settings and weights."""
    config = SIZES | CASES[name]
    config["vocab_size"] = write_tokenizer(folder, name)
    weights = random_weights(decoder_shapes(config))
    write_json(folder / "config.json", config)
    write_sharded(folder, weights, 3, DTYPES.get(name, "float32"))
    return config, weights


def write_nomic(folder: Path) -> Weights:
    """A Nomic BERT with pooling and vocabulary as published ones have them; its weights."""
    shutil.copytree(DATA / "bert/ckpt/1_Pooling", folder / "1_Pooling")
    for name in ("modules.json", "tokenizer.json", "tokenizer_config.json", "vocab.txt"):
        shutil.copy(DATA / "bert/ckpt" / name, folder)
    weights = random_weights(nomic_shapes(NOMIC))
    write_json(folder / "config.json", NOMIC)
    write_safetensors(folder / "model.safetensors", weights)
    return weights


@pytest.mark.parametrize("name", CASES)
def test_decoders(name: str, tmp_path: Path) -> None:
    config, weights = write_decoder(tmp_path, name)
    convert(files_in(tmp_path), tmp_path / "out.gguf", quiet)
    stored = {key: rounded(values, DTYPES.get(name, "float32")) for key, values in weights.items()}
    assert cosine(last_logits(tmp_path / "out.gguf", IDS), decoder_logits(stored, config, IDS)) > 0.9995


@pytest.mark.parametrize("prefix", ["language_model.model.", "model.language_model."])
def test_the_text_model_inside_one_that_sees(prefix: str, tmp_path: Path) -> None:
    alone, inside = tmp_path / "alone", tmp_path / "inside"
    alone.mkdir()
    inside.mkdir()
    config, weights = write_decoder(alone, "gemma3")
    write_tokenizer(inside, "gemma3")
    settings = {"architectures": ["Gemma3ForConditionalGeneration"], "hidden_size": 9, "text_config": config}
    write_json(inside / "config.json", settings)
    renamed = {name.replace("model.", prefix, 1): values for name, values in weights.items()}
    seeing = {"vision_tower.vision_model.head.weight": np.ones((2, 2), np.float32)}
    write_safetensors(inside / "model.safetensors", renamed | seeing)
    for folder in (alone, inside):
        convert(files_in(folder), folder / "out.gguf", quiet)
    assert values_of(alone / "out.gguf") == values_of(inside / "out.gguf")
    assert metadata(alone / "out.gguf") == metadata(inside / "out.gguf")


def test_phi3_in_a_long_context(tmp_path: Path) -> None:
    config = SIZES | LONG | {"vocab_size": write_tokenizer(tmp_path, "phi3")}
    weights = random_weights(decoder_shapes(config))
    fused = dict(weights)
    for layer in range(3):
        name = f"model.layers.{layer}"
        fuse(fused, f"{name}.self_attn.qkv_proj", [f"{name}.self_attn.{part}_proj" for part in "qkv"])
        fuse(fused, f"{name}.mlp.gate_up_proj", [f"{name}.mlp.{part}_proj" for part in ("gate", "up")])
    write_json(tmp_path / "config.json", config)
    write_safetensors(tmp_path / "model.safetensors", fused)
    convert(files_in(tmp_path), tmp_path / "out.gguf", quiet)
    assert cosine(last_logits(tmp_path / "out.gguf", IDS), decoder_logits(weights, config, IDS)) > 0.9995


def fuse(weights: Weights, whole: str, parts: list[str]) -> None:
    """Put several matrices in place of one, row after row."""
    weights[f"{whole}.weight"] = np.concatenate([weights.pop(f"{part}.weight") for part in parts])


@pytest.mark.parametrize("name", ["mixtral", "qwen3moe"])
def test_experts_in_one_tensor_are_the_same(name: str, tmp_path: Path) -> None:
    separate, together = tmp_path / "separate", tmp_path / "together"
    separate.mkdir()
    config, weights = write_decoder(separate, name)
    shutil.copytree(separate, together, ignore=lambda *_: [path.name for path in separate.glob("*.safetensors*")])
    place, parts = ("block_sparse_moe", "w1 w3 w2") if name == "mixtral" else ("mlp", "gate_proj up_proj down_proj")
    fused = {key.replace("block_sparse_moe.gate", "mlp.gate"): values for key, values in weights.items()}
    for layer in range(config["num_hidden_layers"]):
        old, new = f"model.layers.{layer}.{place}.experts", f"model.layers.{layer}.mlp.experts"
        gate, up, down = (np.stack([fused.pop(f"{old}.{n}.{part}.weight") for n in range(4)]) for part in parts.split())
        fused |= {f"{new}.gate_up_proj": np.concatenate([gate, up], 1), f"{new}.down_proj": down}
    write_safetensors(together / "model.safetensors", fused, DTYPES.get(name, "float32"))
    for folder in (separate, together):
        convert(files_in(folder), folder / "out.gguf", quiet)
    assert values_of(separate / "out.gguf") == values_of(together / "out.gguf")


def values_of(path: Path) -> dict[str, tuple[list[int], bytes]]:
    """Shape and bytes of each tensor of a GGUF."""
    return {tensor.name: ([int(n) for n in tensor.shape], tensor.data.tobytes()) for tensor in GGUFReader(path).tensors}


def test_nomic_bert_of_transformers_is_the_same(tmp_path: Path) -> None:
    weights = write_nomic(tmp_path)
    convert(files_in(tmp_path), tmp_path / "older.gguf", quiet)
    newer = {}
    for name, values in weights.items():
        for new, old in NEWER_NOMIC_NAMES.items():
            name = name.replace(old, new)
        newer[name] = values
    for layer in range(2):
        query, key, value = np.split(newer.pop(f"layers.{layer}.attn.Wqkv.weight"), 3)
        name = f"layers.{layer}.self_attn"
        newer |= {f"{name}.q_proj.weight": query, f"{name}.k_proj.weight": key, f"{name}.v_proj.weight": value}
    write_json(tmp_path / "config.json", NEWER_NOMIC)
    write_safetensors(tmp_path / "model.safetensors", newer)
    convert(files_in(tmp_path), tmp_path / "newer.gguf", quiet)
    assert values_of(tmp_path / "older.gguf") == values_of(tmp_path / "newer.gguf")
    assert metadata(tmp_path / "newer.gguf")["nomic-bert.rope.freq_base"] == 1000


def test_nomic_bert(tmp_path: Path) -> None:
    weights = write_nomic(tmp_path)
    convert(files_in(tmp_path), tmp_path / "out.gguf", quiet)
    assert cosine(embedding(tmp_path / "out.gguf", IDS), nomic_mean(weights, NOMIC, IDS)) > 0.9999
    found = metadata(tmp_path / "out.gguf")
    assert found["nomic-bert.context_length"] == 2048
    assert found["nomic-bert.pooling_type"] == 1
    assert found["nomic-bert.rope.freq_base"] == 1000
