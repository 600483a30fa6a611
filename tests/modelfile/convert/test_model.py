"""Types of what is written, and how much memory that takes."""

from __future__ import annotations

import json
import subprocess
import sys
from math import prod
from pathlib import Path
from typing import Any

import pytest
from gguf import GGUFReader

from modelfile.convert import ConvertedInfo, convert
from tests.modelfile.convert.checkpoints import (
    files_in,
    random_weights,
    with_header,
    write_byte_tokenizer,
    write_json,
    write_safetensors,
)
from tests.modelfile.convert.shapes import decoder_shapes
from tests.modelfile.convert.test_families import CASES, SIZES
from tests.modelfile.convert.test_golden import metadata, quiet

LARGE: dict[str, Any] = SIZES | {
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 1024,
    "intermediate_size": 2048,
    "num_hidden_layers": 8,
    "vocab_size": 262,
}
CHILD = """
import json, sys
from pathlib import Path
from modelfile.convert import convert

def peak():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))

files = {name: Path(path) for name, path in json.loads(sys.argv[1]).items()}
before = peak()
convert(files, Path(sys.argv[2]), lambda done, total: None)
print(peak() - before, "llama_cpp" in sys.modules)
"""


@pytest.mark.parametrize(
    ("dtype", "stored", "file_type"), [("float32", "F16", 1), ("float16", "F16", 1), ("bfloat16", "BF16", 32)]
)
def test_types(dtype: str, stored: str, file_type: int, tmp_path: Path) -> None:
    config = SIZES | CASES["qwen3moe"] | {"vocab_size": write_byte_tokenizer(tmp_path)}
    shapes = decoder_shapes(config)
    write_json(tmp_path / "config.json", config)
    write_safetensors(tmp_path / "model.safetensors", random_weights(shapes), dtype)
    info = convert(files_in(tmp_path), tmp_path / "out.gguf", quiet)
    assert info == ConvertedInfo("qwen3moe", file_type, sum(map(prod, shapes.values())))
    types = {tensor.name: tensor.tensor_type.name for tensor in GGUFReader(tmp_path / "out.gguf").tensors}
    exact = ("_norm.weight", "ffn_gate_inp.weight")
    assert types == {name: "F32" if name.endswith(exact) else stored for name in types}
    assert metadata(tmp_path / "out.gguf")["general.file_type"] == file_type


def test_a_model_is_never_in_memory_as_a_whole(tmp_path: Path) -> None:
    """152 MB of weights with 4 MB in the largest, converted in a process of its own, in less than 32 MB."""
    write_byte_tokenizer(tmp_path)
    write_json(tmp_path / "config.json", LARGE)
    size = write_sparse(tmp_path / "model.safetensors", decoder_shapes(LARGE))
    paths = json.dumps({name: str(path) for name, path in files_in(tmp_path).items()})
    command = [sys.executable, "-c", CHILD, paths, str(tmp_path / "out.gguf")]
    child = subprocess.run(command, capture_output=True, text=True, check=True)
    grown, runner = child.stdout.split()
    assert (tmp_path / "out.gguf").stat().st_size > size > 140 << 20
    assert int(grown) << 10 < 32 << 20
    assert runner == "False"


def write_sparse(path: Path, shapes: dict[str, tuple[int, ...]]) -> int:
    """A file of safetensors with zeros in BF16 that takes no room on disk; the length of its data."""
    header, end = {}, 0
    for name, shape in shapes.items():
        start, end = end, end + 2 * prod(shape)
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [start, end]}
    path.write_bytes(with_header(header, b""))
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size + end)
    return end
