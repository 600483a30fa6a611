"""Writes a GGUF from metadata and lazy tensors, with one tensor in memory at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from gguf import GGUFValueType, GGUFWriter

from modelfile.convert.errors import ConvertError
from modelfile.convert.tensor import DTYPES, Array, LazyTensor
from registry.gguf.types import ALIGNMENT

Value = str | bool | int | float | list[str] | list[int] | list[float]
Metadata = dict[str, Value]
"""GGUF metadata as Python values: 32-bit floats, 32-bit integers (unsigned alone, signed in lists)."""


Progress = Callable[[int, int], None]
"""Receives (bytes written, bytes in total). What it raises ends the conversion."""

_KINDS = {bool: GGUFValueType.BOOL, int: GGUFValueType.UINT32, float: GGUFValueType.FLOAT32, str: GGUFValueType.STRING}


def write_gguf(
    target: Path, architecture: str, metadata: Metadata, tensors: Mapping[str, LazyTensor], progress: Progress
) -> None:
    """Write a GGUF. Raises ConvertError and whatever `progress` raises, and then leaves no file."""
    with _whole(target):
        _write_header(target, architecture, metadata, tensors)
        _write_values(target, tensors, progress)


@contextmanager
def _whole(target: Path) -> Iterator[None]:
    """Remove an unfinished file."""
    try:
        yield
    except BaseException as error:
        target.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise ConvertError(f"write: {error.strerror or error}") from error
        if isinstance(error, UnicodeEncodeError):
            raise ConvertError("a text has characters that do not exist") from error
        raise


def _write_header(target: Path, architecture: str, metadata: Metadata, tensors: Mapping[str, LazyTensor]) -> None:
    writer = GGUFWriter(target, architecture)
    for key, value in metadata.items():
        if not isinstance(value, list):
            writer.add_key_value(key, value, _KINDS[type(value)])
        elif value:
            writer.add_key_value(key, value, GGUFValueType.ARRAY)
    for name, tensor in tensors.items():
        writer.add_tensor_info(name, tensor.shape, DTYPES[tensor.type], _length(tensor), raw_dtype=tensor.type)
    try:
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
    finally:
        writer.close()


def _write_values(target: Path, tensors: Mapping[str, LazyTensor], progress: Progress) -> None:
    written, total = 0, sum(map(_length, tensors.values()))
    with target.open("ab") as file:
        _align(file)
        for name, tensor in tensors.items():
            for values in _parts(name, tensor):
                values.tofile(file)
                written += values.nbytes
                progress(written, total)
            _align(file)


def _parts(name: str, tensor: LazyTensor) -> Iterator[Array]:
    """Read the parts of a tensor one by one. Raises ConvertError with the tensor's name."""
    for part in tensor.parts:
        try:
            yield part()
        except ConvertError as error:
            raise ConvertError(f"tensor '{name}': {error}") from error


def _align(file: BinaryIO) -> None:
    file.write(bytes(-file.tell() % ALIGNMENT))


def _length(tensor: LazyTensor) -> int:
    return tensor.size * DTYPES[tensor.type].itemsize
