"""A GGUF from metadata and tensors, with one tensor in memory at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from gguf import GGUFValueType, GGUFWriter

from modelfile.convert.errors import ConvertError
from modelfile.convert.metadata import Metadata
from modelfile.convert.tensor import DTYPES, Array, Tensor

Progress = Callable[[int, int], None]
"""Told how many bytes of tensors are written, and of how many. What it raises ends the conversion."""

_ALIGNMENT = 32  # of a tensor's first byte; what a GGUF has unless it says otherwise
_KINDS = {bool: GGUFValueType.BOOL, int: GGUFValueType.UINT32, float: GGUFValueType.FLOAT32, str: GGUFValueType.STRING}


def write_gguf(
    target: Path, architecture: str, metadata: Metadata, tensors: Mapping[str, Tensor], progress: Progress
) -> None:
    """Write a file, or nothing: if anything fails, also `progress`, no file is left. Raises ConvertError."""
    with _whole(target):
        _write_header(target, architecture, metadata, tensors)
        _write_values(target, tensors, progress)


@contextmanager
def _whole(target: Path) -> Iterator[None]:
    """Remove a file that is not finished."""
    try:
        yield
    except BaseException as error:
        target.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise ConvertError(f"write: {error.strerror or error}") from error
        if isinstance(error, UnicodeEncodeError):
            raise ConvertError("a text has characters that do not exist") from error
        raise


def _write_header(target: Path, architecture: str, metadata: Metadata, tensors: Mapping[str, Tensor]) -> None:
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


def _write_values(target: Path, tensors: Mapping[str, Tensor], progress: Progress) -> None:
    written, total = 0, sum(map(_length, tensors.values()))
    with target.open("ab") as file:
        _align(file)
        for name, tensor in tensors.items():
            for values in _parts(name, tensor):
                values.tofile(file)
                written += values.nbytes
                progress(written, total)
            _align(file)


def _parts(name: str, tensor: Tensor) -> Iterator[Array]:
    """The parts of a tensor as they are needed. Raises ConvertError with its name."""
    for part in tensor.parts:
        try:
            yield part()
        except ConvertError as error:
            raise ConvertError(f"tensor '{name}': {error}") from error


def _align(file: BinaryIO) -> None:
    file.write(bytes(-file.tell() % _ALIGNMENT))


def _length(tensor: Tensor) -> int:
    return tensor.size * DTYPES[tensor.type].itemsize
