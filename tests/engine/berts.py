"""A tiny BERT as a file, files that differ from others in a token or in how they pool, and tiny rerankers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGUFReader, GGUFValueType, GGUFWriter
from gguf.constants import PoolingType
from gguf.scripts.gguf_new_metadata import MetadataDetails, copy_with_new_metadata

from modelfile.convert import convert
from registry.gguf import read_header
from tests.modelfile.convert.checkpoints import DATA, files_in

NAN = b"\x00\x7e"  # float16
ROW_STEP = {"F16": 2, "Q8_0": 34}  # bytes from one float16 of a row to the next: its numbers, or its blocks' scales


def tiny_bert(target: Path) -> Path:
    """Two layers, 64 numbers to a vector, a context of 128, pooled by the mean."""
    convert(files_in(DATA / "bert/ckpt"), target, lambda done, total: None)
    return target


def spoilt(source: Path, target: Path, token: int) -> Path:
    """A copy in which every number that a token begins with is NaN."""
    header = read_header(source)
    (table,) = [tensor for tensor in header.tensors if tensor.name == "token_embd.weight"]
    row = table.size // table.shape[1]
    data = bytearray(source.read_bytes())
    start = header.data_offset + table.offset + token * row
    for at in range(start, start + row, ROW_STEP[table.type]):
        data[at : at + len(NAN)] = NAN
    target.write_bytes(data)
    return target


def pooled(source: Path, target: Path, pooling: int) -> Path:
    """A copy that says how it pools, in llama.cpp's number for that."""
    reader = GGUFReader(source)
    architecture = read_header(source).architecture
    writer = GGUFWriter(target, architecture)
    wish = MetadataDetails(GGUFValueType.UINT32, pooling)
    copy_with_new_metadata(reader, writer, {f"{architecture}.pooling_type": wish}, [])
    return target


RERANK_TEMPLATE = "<|im_start|>user\nQuery: {query}\nDocument: {document}<|im_end|>\n<|im_start|>assistant\n"


def bert_reranker(target: Path, *, pooling: int | None = PoolingType.RANK, labels: int = 0, ends: bool = False) -> Path:
    """The tiny BERT with a classifier of two layers and random weights; `ends`: texts have an end token."""
    bert = tiny_bert(target.with_suffix(".bert"))
    width = 64
    classifier = {
        "cls.weight": _random(width, width),
        "cls.bias": _random(width),
        "cls.output.weight": _random(max(labels, 1), width),
        "cls.output.bias": _random(max(labels, 1)),
    }
    metadata = {"tokenizer.ggml.add_eos_token": True} if ends else {}
    return _ranking(bert, target, classifier, pooling, [f"LABEL_{number}" for number in range(labels)], metadata)


def chat_reranker(source: Path, target: Path, *, template: str = RERANK_TEMPLATE) -> Path:
    """A Qwen3 that writes, as a reranker: labels yes and no, and a template that joins query and document."""
    width = read_header(source).size("embedding_length")
    classifier = {"cls.output.weight": _random(2, width)}
    metadata = {"tokenizer.chat_template.rerank": template} if template else {}
    return _ranking(source, target, classifier, PoolingType.RANK, ["yes", "no"], metadata)


def _random(*shape: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    values = np.random.default_rng(sum(shape)).standard_normal(shape, dtype=np.float32)
    return values * np.float32(2 * shape[-1] ** -0.5)


def _ranking(
    source: Path,
    target: Path,
    tensors: Mapping[str, np.ndarray[Any, Any]],
    pooling: int | None,
    labels: list[str],
    metadata: Mapping[str, str | bool],
) -> Path:
    """A copy with more tensors and these entries."""
    reader = GGUFReader(source)
    architecture = read_header(source).architecture
    own = f"{architecture}.pooling_type"
    writer = GGUFWriter(target, architecture)
    for field in reader.fields.values():
        if field.name not in (own, "general.architecture") and not field.name.startswith("GGUF."):
            inner = field.types[-1] if field.types[0] == GGUFValueType.ARRAY else None
            writer.add_key_value(field.name, field.contents(), field.types[0], sub_type=inner)
    if pooling is not None:
        writer.add_uint32(own, pooling)
    if labels:
        writer.add_array(f"{architecture}.classifier.output_labels", labels)
    for key, value in metadata.items():
        writer.add_key_value(key, value, GGUFValueType.BOOL if value is True else GGUFValueType.STRING)
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
    for name, values in tensors.items():
        writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return target
