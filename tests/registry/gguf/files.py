"""GGUF files by the byte: right ones, and such as no program writes by accident."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from registry.gguf import GGUFArray, GGUFError, GGUFHeader, read_header
from registry.gguf.raw import encode_header, read_entries

UINT8, INT8, UINT16, INT16, UINT32, INT32, FLOAT32, BOOL, STRING, ARRAY, UINT64, INT64, FLOAT64 = range(13)
F32, F16, Q8_0, I8, I64 = 0, 1, 8, 24, 27
MOST = (1 << 64) - 1


def uint32(value: int) -> bytes:
    return struct.pack("<I", value)


def uint64(value: int) -> bytes:
    return struct.pack("<Q", value)


def text(value: str | bytes, length: int | None = None) -> bytes:
    """A text behind its length, or behind another one."""
    data = value.encode() if isinstance(value, str) else value
    return uint64(len(data) if length is None else length) + data


def entry(key: str | bytes, kind: int, value: bytes) -> bytes:
    return text(key) + uint32(kind) + value


def array(kind: int, count: int, values: bytes) -> bytes:
    return uint32(kind) + uint64(count) + values


def tensor(name: str | bytes, shape: Sequence[int], kind: int = F32, offset: int = 0, dims: int | None = None) -> bytes:
    sizes = b"".join(map(uint64, shape))
    return text(name) + uint32(len(shape) if dims is None else dims) + sizes + uint32(kind) + uint64(offset)


@dataclass(frozen=True)
class File:
    """A GGUF file; counts that are not given are right."""

    entries: Sequence[bytes] = ()
    tensors: Sequence[bytes] = ()
    data: bytes = b""
    magic: bytes = b"GGUF"
    version: int = 3
    n_entries: int | None = None
    n_tensors: int | None = None
    alignment: int = 32

    def build(self) -> bytes:
        n_tensors = len(self.tensors) if self.n_tensors is None else self.n_tensors
        n_entries = len(self.entries) if self.n_entries is None else self.n_entries
        counts = uint32(self.version) + uint64(n_tensors) + uint64(n_entries)
        header = self.magic + counts + b"".join(self.entries) + b"".join(self.tensors)
        return header + bytes(-len(header) % self.alignment) + self.data


def entries_of_all_types() -> list[bytes]:
    """One entry of each type, texts and arrays included."""
    forms = "BbHhIif?"
    scalars = [entry(f"x.{form}", kind, struct.pack(f"<{form}", 1)) for kind, form in enumerate(forms)]
    return [
        entry("general.architecture", STRING, text("x")),
        entry("general.file_type", UINT32, uint32(7)),
        entry("general.alignment", UINT32, uint32(64)),
        *scalars,
        entry("x.text", STRING, text("grüße")),
        entry("x.Q", UINT64, uint64(MOST)),
        entry("x.q", INT64, struct.pack("<q", -1)),
        entry("x.d", FLOAT64, struct.pack("<d", 0.1)),
        entry("x.texts", ARRAY, array(STRING, 3, text("a") + text("") + text("你"))),
        entry("x.numbers", ARRAY, array(INT32, 2, struct.pack("<2i", -1, 2))),
        entry("x.flags", ARRAY, array(BOOL, 2, b"\0\1")),
        entry("x.none", ARRAY, array(STRING, 0, b"")),
    ]


def small_model() -> bytes:
    """A file with everything that a file can have."""
    tensors = [tensor("a", (32, 2), Q8_0, 0), tensor("b", (3,), F32, 128)]
    return File(entries_of_all_types(), tensors, bytes(128 + 12), alignment=64).build()


def edited(source: Path, changes: Mapping[str, bytes]) -> bytes:
    """A file with other values in its metadata, each a type's number and what follows it; empty: without it."""
    header = read_header(source)
    entries = {entry.key: entry.value for entry in read_entries(source, header)} | dict(changes)
    head = encode_header({key: value for key, value in entries.items() if value}, header.tensors, 32)
    return head + source.read_bytes()[header.data_offset :]


def read(path: Path, data: bytes) -> GGUFHeader:
    """The header of these bytes, as a file."""
    path.write_bytes(data)
    return read_header(path)


def read_everything(path: Path, data: bytes) -> None:
    """Read whatever is to be read; what is no GGUF may only raise GGUFError."""
    with suppress(GGUFError):
        header = read(path, data)
        for tensor in header.tensors:
            assert header.data_offset + tensor.offset + tensor.size <= len(data)
        for value in header.metadata.values():
            assert not isinstance(value, GGUFArray) or len(value.values()) == len(value)
