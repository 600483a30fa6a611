"""The bundled model with one value of its metadata of a wrong kind, or beyond all bounds."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

from registry.gguf import read_header
from registry.gguf.raw import read_entries
from tests.registry.gguf import files
from tests.registry.gguf.files import array, edited, text, uint32, uint64

WRONG = {
    "text": uint32(files.STRING) + text("x"),
    "empty text": uint32(files.STRING) + text(""),
    "not UTF-8": uint32(files.STRING) + text(b"\xff\xfe"),
    "array": uint32(files.ARRAY) + array(files.INT32, 2, struct.pack("<2i", -1, 7)),
    "array of texts": uint32(files.ARRAY) + array(files.STRING, 2, text("a") + text("b")),
    "array of NaN": uint32(files.ARRAY) + array(files.FLOAT32, 2, struct.pack("<2f", float("nan"), 1)),
    "empty array": uint32(files.ARRAY) + array(files.UINT32, 0, b""),
    "NaN": uint32(files.FLOAT32) + struct.pack("<f", float("nan")),
    "infinity": uint32(files.FLOAT64) + struct.pack("<d", float("inf")),
    "-1": uint32(files.INT32) + struct.pack("<i", -1),
    "0": uint32(files.UINT32) + uint32(0),
    "most in 32 bits": uint32(files.UINT32) + uint32((1 << 32) - 1),
    "most in 63 bits": uint32(files.UINT64) + uint64((1 << 63) - 1),
    "true": uint32(files.BOOL) + b"\1",
    "nothing": b"",
}


def mutated(source: Path) -> Iterator[tuple[str, bytes]]:
    """Each change by its name, and the file."""
    for entry in read_entries(source, read_header(source)):
        for name, value in WRONG.items():
            yield f"{entry.key}: {name}", edited(source, {entry.key: value})
