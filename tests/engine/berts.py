"""A tiny BERT as a file, and files that differ from others in a token or in how they pool."""

from __future__ import annotations

from pathlib import Path

from gguf import GGUFReader, GGUFValueType, GGUFWriter
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
