"""A parsed GGUF header: metadata, tensor infos, and arrays that are read on demand."""

from __future__ import annotations

import math
import struct
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from registry.gguf.cursor import GGUFError, Mark
from registry.gguf.types import FILE_TYPES, SCALARS, STRING, UNKNOWN, parameter_size

SIZES = (
    *("context_length", "embedding_length", "block_count", "feed_forward_length"),
    *("attention.head_count", "attention.head_count_kv", "attention.key_length", "attention.value_length"),
    "n_deepstack_layers",
)
"""Architecture fields that are one integer, or one per layer."""
MOST_LAYERS = 1 << 16
_ENTRY = 400  # bytes in memory of a metadata entry or tensor info
_MOST_SIZE = (1 << 32) - 1
_LENGTH = struct.Struct("<Q")
_LENGTH_SIZE = _LENGTH.size


class TensorInfo(NamedTuple):
    """One tensor: `shape` with the row length first, `offset` in bytes from the start of the data, `size` in bytes."""

    name: str
    type: str
    shape: tuple[int, ...]
    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class GGUFArray:
    """A metadata array of known length whose values are read on demand.

    For strings, `marks` are positions of the first and some others, and `longest` the bytes of the longest.
    """

    path: Path
    kind: int
    count: int
    offset: int
    size: int
    marks: tuple[Mark, ...] = ()
    longest: int = 0

    def __len__(self) -> int:
        return self.count

    def values(self) -> list[Any]:
        """All values: numbers, booleans or strings. Reads the file. Raises GGUFError or FileNotFoundError."""
        with self._file() as file:
            file.seek(self.offset)
            data = file.read(self.size)
            return _texts(data, self.count) if self.kind == STRING else _numbers(data, self.kind, self.count)

    def texts_at(self, places: Iterable[int]) -> dict[int, str]:
        """The strings at these indexes, as far as they exist. Reads only near them. Raises what `values` raises."""
        if self.kind != STRING:
            return {}
        with self._file() as file:
            existing = sorted(place for place in places if 0 <= place < self.count)
            return {
                place: text
                for after, near in groupby(existing, self._mark_after)
                for place, text in self._texts_from(file, after, near)
            }

    def _mark_after(self, place: int) -> int:
        """The index of the first mark behind a string."""
        return bisect_right(self.marks, place, key=attrgetter("number"))

    def _texts_from(self, file: BinaryIO, after: int, places: Iterable[int]) -> Iterator[tuple[int, str]]:
        """Strings in front of a mark, by rising index: they are reached from the mark before, in one walk."""
        mark = self.marks[after - 1]
        end = self.marks[after].start if after < len(self.marks) else self.size
        file.seek(self.offset + mark.start)
        data, at, number, unpack = file.read(end - mark.start), 0, mark.number, _LENGTH.unpack_from
        for place in places:
            for _ in range(place - number):
                (length,) = unpack(data, at)
                at += length + _LENGTH_SIZE
            (length,) = unpack(data, at)
            number = place
            yield place, data[at + _LENGTH_SIZE : at + _LENGTH_SIZE + length].decode("utf-8", "replace")

    @contextmanager
    def _file(self) -> Iterator[BinaryIO]:
        """The open file; unreadable or too short is a GGUFError."""
        try:
            with self.path.open("rb") as file:
                yield file
        except FileNotFoundError:
            raise
        except OSError as error:
            raise GGUFError(f"cannot read: {error.strerror}") from None
        except struct.error:
            raise GGUFError("unexpected EOF") from None


@dataclass(frozen=True, slots=True)
class GGUFHeader:
    """A GGUF header. `metadata` holds numbers, booleans, strings and `GGUFArray`s; `data_offset` is in bytes."""

    version: int
    metadata: dict[str, Any]
    tensors: tuple[TensorInfo, ...]
    data_offset: int

    @property
    def architecture(self) -> str:
        """`general.architecture`, else `unknown`."""
        value = self.metadata.get("general.architecture")
        return value if isinstance(value, str) else UNKNOWN

    def field(self, suffix: str) -> Any:
        """The value of `<architecture>.<suffix>`, or None."""
        return self.metadata.get(f"{self.architecture}.{suffix}")

    def sizes(self, suffix: str) -> list[int]:
        """An integer field, or one with an integer per layer, as a list; empty if missing.

        May read the file. Raises GGUFError for other types, or FileNotFoundError.
        """
        value = self.field(suffix)
        if isinstance(value, GGUFArray):
            value = value.values() if value.kind != STRING and len(value) <= MOST_LAYERS else [value]
        sizes = [] if value is None else value if isinstance(value, list) else [value]
        if not all(map(_is_size, sizes)):
            raise GGUFError(f"{self.architecture}.{suffix} is no whole number")
        return sizes

    def size(self, suffix: str, default: int = 0) -> int:
        """The largest of `sizes`, or `default`."""
        return max(self.sizes(suffix), default=default)

    def require_sizes(self) -> None:
        """Check all SIZES fields. Raises GGUFError."""
        for suffix in SIZES:
            self.sizes(suffix)

    @property
    def memory(self) -> int:
        """Approximate bytes of this object, for caches."""
        values = self.metadata.values()
        texts = sum(len(value) for value in values if isinstance(value, str))
        marks = sum(len(value.marks) for value in values if isinstance(value, GGUFArray))
        return texts + _ENTRY * (len(self.metadata) + len(self.tensors) + marks)

    @property
    def parameter_count(self) -> int:
        """Number of weights in all tensors."""
        return sum(math.prod(tensor.shape) for tensor in self.tensors)

    @property
    def parameter_size(self) -> str:
        """The number of parameters as a label, such as `7.6B`."""
        return parameter_size(self.parameter_count)

    @property
    def file_type(self) -> str:
        """The quantization by `general.file_type`. 0 counts as missing, as in Ollama."""
        value = self.metadata.get("general.file_type")
        return FILE_TYPES.get(value, UNKNOWN) if _is_size(value) and value else UNKNOWN


def require_complete(headers: Sequence[GGUFHeader]) -> None:
    """Check that these are all parts of one split model. Raises GGUFError."""
    counts = {header.metadata.get("split.count") for header in headers}
    numbers = {header.metadata.get("split.no") for header in headers}
    if counts != {len(headers)} or numbers != set(range(len(headers))):
        raise GGUFError("the parts of a split model do not belong together")


def _is_size(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MOST_SIZE


def _numbers(data: bytes, kind: int, count: int) -> list[Any]:
    return list(struct.unpack(f"<{count}{SCALARS[kind].format[1:]}", data))


def _texts(data: bytes, count: int) -> list[str]:
    unpack, at, texts = _LENGTH.unpack_from, 0, []
    for _ in range(count):
        start = at + _LENGTH.size
        at = start + unpack(data, at)[0]
        texts.append(data[start:at].decode("utf-8", "replace"))
    return texts
