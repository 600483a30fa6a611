"""LoRA adapters: where llama.cpp and PEFT scale otherwise, other forms, and what is refused."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGUFReader

from modelfile.convert import ConvertError, convert, convert_adapter
from tests.modelfile.convert.checkpoints import DATA, Weights, files_in, random_weights, write_json, write_safetensors
from tests.modelfile.convert.llamacpp import cosine, last_logits
from tests.modelfile.convert.networks import decoder_logits
from tests.modelfile.convert.test_families import IDS, write_decoder
from tests.modelfile.convert.test_golden import metadata, quiet

BASE = {
    "general.architecture": "llama",
    "llama.block_count": 2,
    "llama.attention.head_count": 4,
    "llama.attention.head_count_kv": 2,
}
RECORDED = DATA / "llama-bpe/adapter"
PEFT: dict[str, Any] = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "fan_in_fan_out": False}


def write_adapter(folder: Path, weights: Weights, **settings: Any) -> Path:
    """An adapter in a folder of its own."""
    folder.mkdir(exist_ok=True)
    write_safetensors(folder / "adapter_model.safetensors", weights)
    write_json(folder / "adapter_config.json", PEFT | settings)
    return folder


def values(path: Path) -> dict[str, np.ndarray]:
    """The tensors of a GGUF."""
    return {tensor.name: tensor.data for tensor in GGUFReader(path).tensors}


def converted(folder: Path, target: Path, **base: Any) -> dict[str, np.ndarray]:
    """The tensors of a converted adapter."""
    convert_adapter(files_in(folder), BASE | base, target, quiet)
    return values(target)


def merged(weights: Weights, adapter: Weights, scale: Callable[[str, int], float]) -> Weights:
    """Weights with an adapter added, as PEFT merges it."""
    found = dict(weights)
    for name in adapter:
        if name.endswith(".lora_A.weight"):
            module = name.removesuffix(".lora_A.weight")
            first, second = adapter[name], adapter[f"{module}.lora_B.weight"]
            key = f"{module.removeprefix('base_model.model.')}.weight"
            found[key] = found[key] + scale(module, len(first)) * (second @ first)
    return found


def test_scales_of_single_modules_and_of_rank_stabilised_adapters(tmp_path: Path) -> None:
    """llama.cpp's answer with the adapter is that of numpy's network with merged weights."""
    config, weights = write_decoder(tmp_path, "llama3")
    convert(files_in(tmp_path), tmp_path / "base.gguf", quiet)
    names = {"self_attn.q_proj": (64, 64), "self_attn.k_proj": (32, 64), "mlp.down_proj": (64, 96)}
    halves = {}
    for layer in range(3):
        for name, (rows, columns) in names.items():
            rank = 8 if name == "mlp.down_proj" else 4
            module = f"base_model.model.model.layers.{layer}.{name}"
            halves |= {f"{module}.lora_A.weight": (rank, columns), f"{module}.lora_B.weight": (rows, rank)}
    adapter = random_weights(halves, seed=2)
    pattern = {"self_attn.k_proj": 2, "layers.1.mlp.down_proj": 32}
    folder = write_adapter(tmp_path / "adapter", adapter, use_rslora=True, alpha_pattern=pattern)
    convert_adapter(files_in(folder), metadata(tmp_path / "base.gguf"), tmp_path / "adapter.gguf", quiet)

    def scale(module: str, rank: int) -> float:
        alpha = next((alpha for end, alpha in pattern.items() if module.endswith(end)), 8)
        return alpha / math.sqrt(rank)

    expected = decoder_logits(merged(weights, adapter, scale), config, IDS)
    assert cosine(last_logits(tmp_path / "base.gguf", IDS, tmp_path / "adapter.gguf"), expected) > 0.999
    assert cosine(last_logits(tmp_path / "base.gguf", IDS), expected) < 0.9


def test_values_keep_their_types(tmp_path: Path) -> None:
    name = "base_model.model.model.layers.0.mlp.up_proj"
    weights = random_weights({f"{name}.lora_A.weight": (4, 8), f"{name}.lora_B.weight": (8, 4)})
    folder = write_adapter(tmp_path / "a", weights)
    write_safetensors(folder / "adapter_model.safetensors", weights, "bfloat16")
    convert_adapter(files_in(folder), BASE, tmp_path / "out.gguf", quiet)
    assert {tensor.tensor_type.name for tensor in GGUFReader(tmp_path / "out.gguf").tensors} == {"BF16"}


def test_mlx_multiplies_from_the_other_side(tmp_path: Path) -> None:
    first, second = np.arange(24, dtype=np.float32).reshape(2, 12), np.ones((16, 2), np.float32)
    peft = "base_model.model.model.layers.0.mlp.up_proj"
    theirs = write_adapter(tmp_path / "peft", {f"{peft}.lora_A.weight": first, f"{peft}.lora_B.weight": second})
    mlx = "model.layers.0.mlp.up_proj"
    folder = tmp_path / "mlx"
    folder.mkdir()
    write_safetensors(folder / "adapters.safetensors", {f"{mlx}.lora_a": first.T, f"{mlx}.lora_b": second.T})
    write_json(folder / "adapter_config.json", {"lora_parameters": {"rank": 2, "scale": 4.0}})
    found = converted(folder, tmp_path / "mlx.gguf")
    for name, tensor in converted(theirs, tmp_path / "peft.gguf").items():
        assert np.array_equal(found[name], tensor)
    assert metadata(tmp_path / "mlx.gguf") == metadata(tmp_path / "peft.gguf")


def test_embeddings_have_a_row_for_each_token(tmp_path: Path) -> None:
    name = "base_model.model.model.embed_tokens"
    halves = random_weights({f"{name}.lora_embedding_A": (4, 100), f"{name}.lora_embedding_B": (16, 4)})
    found = converted(write_adapter(tmp_path / "a", halves), tmp_path / "out.gguf")
    assert np.array_equal(found["token_embd.weight.lora_a"], halves[f"{name}.lora_embedding_A"].T)
    assert np.array_equal(found["token_embd.weight.lora_b"], halves[f"{name}.lora_embedding_B"])


def test_experts_are_one_tensor(tmp_path: Path) -> None:
    halves = {}
    for expert in range(3):
        name = f"base_model.model.model.layers.0.mlp.experts.{expert}.gate_proj"
        halves |= {f"{name}.lora_A.weight": (2, 8), f"{name}.lora_B.weight": (6, 2)}
    folder = write_adapter(tmp_path / "a", random_weights(halves))
    base = {"general.architecture": "qwen3moe", "qwen3moe.block_count": 1, "qwen3moe.expert_count": 3}
    found = converted(folder, tmp_path / "out.gguf", **base)
    assert found["blk.0.ffn_gate_exps.weight.lora_a"].shape == (3, 2, 8)
    assert found["blk.0.ffn_gate_exps.weight.lora_b"].shape == (3, 6, 2)
    with pytest.raises(ConvertError, match=r"is there for 3 experts of 4"):
        converted(folder, tmp_path / "out.gguf", **base | {"qwen3moe.expert_count": 4})


def up_proj(**shapes: tuple[int, ...]) -> Weights:
    """Tensors beside one module."""
    return random_weights({f"base_model.model.model.layers.0.mlp.up_proj.{n}": shape for n, shape in shapes.items()})


PAIR = {"lora_A.weight": (4, 8), "lora_B.weight": (6, 4)}


@pytest.mark.parametrize(
    ("weights", "settings", "base", "message"),
    [
        (PAIR, {}, {"general.architecture": "bert"}, 'unsupported architecture "bert"'),
        (PAIR, {}, {"llama.block_count": None}, "the base model has no block_count"),
        (PAIR, {}, {"llama.block_count": 0}, "the base model has no 'model.layers.0.mlp.up_proj.weight'"),
        (PAIR, {"peft_type": "LOHA"}, {}, "adapter_config.json: peft_type 'LOHA' is not supported"),
        (PAIR, {"fan_in_fan_out": True}, {}, "adapter_config.json: fan_in_fan_out True is not supported"),
        (PAIR, {"lora_alpha": None}, {}, "adapter_config.json: lora_alpha is missing"),
        (PAIR, {"lora_alpha": 0}, {}, "adapter_config.json: lora_alpha is no sensible number"),
        ({"lora_A.weight": (4, 8)}, {}, {}, "the adapter has only one matrix for 'model.layers.0.mlp.up_proj.weight'"),
        (
            PAIR | {"lora_B.weight": (6, 3)},
            {},
            {},
            "up_proj.weight' have the ranks 4 and 3",
        ),
        (PAIR | {"lora_magnitude_vector": (6,)}, {}, {}, "lora_magnitude_vector' is no part of a LoRA adapter"),
        (PAIR | {"lora_A.weight": (4,)}, {}, {}, "lora_A.weight' has the shape [4]"),
        ({"base_layer.weight": (6, 8)}, {}, {}, "the adapter changes nothing"),
    ],
)
def test_what_is_refused(
    weights: dict[str, tuple[int, ...]], settings: dict[str, Any], base: dict[str, Any], message: str, tmp_path: Path
) -> None:
    folder = write_adapter(tmp_path / "a", up_proj(**weights), **settings)
    with pytest.raises(ConvertError) as error:
        converted(folder, tmp_path / "out.gguf", **base)
    assert message in str(error.value)
    assert not (tmp_path / "out.gguf").exists()


def test_rows_that_are_not_those_of_heads(tmp_path: Path) -> None:
    name = "base_model.model.model.layers.0.self_attn.q_proj"
    weights = random_weights({f"{name}.lora_A.weight": (4, 8), f"{name}.lora_B.weight": (12, 4)})
    with pytest.raises(ConvertError, match="has 12 rows, which are not those of 4 heads"):
        converted(write_adapter(tmp_path / "a", weights), tmp_path / "out.gguf")


def test_missing_files(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(RECORDED, tmp_path / "a"))
    (folder / "adapter_model.safetensors").unlink()
    with pytest.raises(ConvertError, match="no tensors were found"):
        converted(folder, tmp_path / "out.gguf")
    (folder / "adapter_config.json").unlink()
    with pytest.raises(ConvertError, match=r"open adapter_config\.json: no such file or directory"):
        converted(folder, tmp_path / "out.gguf")
