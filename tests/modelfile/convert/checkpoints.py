"""Small random checkpoints, written as Hugging Face writes them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

DATA = Path(__file__).parents[2] / "data/convert"
QWEN2_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
NAMES = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}

Weights = dict[str, NDArray[Any]]


def files_in(folder: Path) -> dict[str, Path]:
    """The files of a folder and below by their names in it."""
    return {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}


def random_weights(shapes: Mapping[str, tuple[int, ...]], seed: int = 1) -> Weights:
    """Values that every mistake changes: norms far from 1, biases far from 0."""
    random = np.random.default_rng(seed)
    weights = {}
    for name, shape in shapes.items():
        spread = 0.5 if len(shape) == 1 or "embed" in name else 1.5 / np.sqrt(shape[-1])
        weights[name] = random.normal(0, spread, shape).astype(np.float32)
    return weights


def rounded(values: NDArray[Any], dtype: str) -> NDArray[Any]:
    """Values as they are after being written as `dtype`."""
    if dtype == "bfloat16":
        return (bfloat16(values).astype(np.uint32) << 16).view(np.float32)
    return values.astype(dtype).astype(np.float32)


def bfloat16(values: NDArray[Any]) -> NDArray[np.uint16]:
    """The upper halves of float32 numbers, rounded half up."""
    return ((values.view(np.uint32) + 0x8000) >> 16).astype(np.uint16)


def write_safetensors(path: Path, weights: Mapping[str, NDArray[Any]], dtype: str = "float32") -> None:
    """One file with all weights in one type."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    data = b""
    for name, values in weights.items():
        stored = bfloat16(values) if dtype == "bfloat16" else values.astype(dtype)
        start, data = len(data), data + stored.tobytes()
        header[name] = {"dtype": NAMES[dtype], "shape": list(values.shape), "data_offsets": [start, len(data)]}
    path.write_bytes(with_header(header, data))


def with_header(header: Mapping[str, Any], data: bytes) -> bytes:
    """The bytes of a file with any header."""
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def write_sharded(folder: Path, weights: Weights, count: int, dtype: str = "float32") -> None:
    """Several files and their index; layers are spread over all of them."""
    places = {}
    for shard in range(count):
        name = f"model-{shard + 1:05d}-of-{count:05d}.safetensors"
        part = dict(list(weights.items())[shard::count])
        write_safetensors(folder / name, part, dtype)
        places |= dict.fromkeys(part, name)
    write_json(folder / "model.safetensors.index.json", {"metadata": {}, "weight_map": places})


def write_json(path: Path, value: Any) -> None:
    """A JSON file."""
    path.write_text(json.dumps(value), encoding="utf-8")


def write_byte_tokenizer(folder: Path, split: str = QWEN2_SPLIT) -> int:
    """A byte-level BPE of every byte and a few merges; the size of its vocabulary."""
    alphabet = byte_alphabet()
    merges = [("h", "e"), ("l", "l"), ("he", "ll"), ("hell", "o"), ("\u0120", "w")]
    texts = alphabet + ["".join(merge) for merge in merges]
    added = [{"id": len(texts), "content": "<|end|>", "special": True, "normalized": False}]
    steps = [
        {"type": "Split", "pattern": {"Regex": split}, "behavior": "Isolated", "invert": False},
        {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False},
    ]
    model = {"type": "BPE", "vocab": {text: id for id, text in enumerate(texts)}, "merges": [list(m) for m in merges]}
    tokenizer = {"added_tokens": added, "pre_tokenizer": {"type": "Sequence", "pretokenizers": steps}, "model": model}
    write_json(folder / "tokenizer.json", tokenizer)
    write_json(folder / "tokenizer_config.json", {"eos_token": "<|end|>"})
    return len(texts) + 1


def byte_alphabet() -> list[str]:
    """The characters that stand for the 256 bytes: themselves where they can be seen, others from U+0100 on."""
    visible = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    hidden = [byte for byte in range(256) if byte not in visible]
    return [chr(byte) if byte in visible else chr(0x100 + hidden.index(byte)) for byte in range(256)]
