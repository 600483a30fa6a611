"""Cutting a GGUF into shards, as llama.cpp's tool does it."""

from __future__ import annotations

from pathlib import Path

import gguf
from gguf import GGUFReader, GGUFValueType, GGUFWriter


def split(source: Path, target: Path, tensors: int) -> list[Path]:
    """Write a file as several of at most so many tensors; their paths in order."""
    reader = GGUFReader(source)
    field = reader.get_field("general.architecture")
    assert field is not None
    writer = GGUFWriter(target, field.contents(), split_max_tensors=tensors)
    for name, field in reader.fields.items():
        if name.startswith("GGUF.") or name == "general.architecture":
            continue
        kind = field.types[0]
        inner = field.types[-1] if kind is GGUFValueType.ARRAY else None
        writer.add_key_value(name, field.contents(), kind, inner)
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, tensor.data, raw_dtype=gguf.GGMLQuantizationType(tensor.tensor_type))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return sorted(target.parent.glob(f"{target.stem}-*-of-*.gguf"))
