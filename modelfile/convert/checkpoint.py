"""A safetensors checkpoint: its settings, and where the values of each tensor are."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGMLQuantizationType as Type
from safetensors import SafetensorError, safe_open

from modelfile.convert import fp8
from modelfile.convert.config import Config
from modelfile.convert.errors import ConvertError, UnsupportedType
from modelfile.convert.files import Files
from modelfile.convert.tensor import DTYPES, Array, LazyTensor, cast
from registry import blob_json

_INDEX = "model.safetensors.index.json"
_TYPES = {"F32": Type.F32, "F16": Type.F16, "BF16": Type.BF16}
_MOST_DIMENSIONS = 4
_LONGEST_NAME = 512
_DECODED_AT_ONCE = 1 << 20  # FP8 values decoded to F32 at once
_UNKNOWN_TYPE = re.compile(r"unknown variant `(\w+)`")


@dataclass(frozen=True, slots=True)
class TensorSource:
    """A tensor's place in a file; `dtype` is safetensors' name of its type, `start` in bytes.

    FP8 weights may have `scales`, per block of (rows, columns); `unscaled` ones lack scales that they need.
    """

    path: Path
    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    scales: TensorSource | None = None
    blocks: fp8.Blocks = (1, 1)
    unscaled: bool = False

    @property
    def is_fp8(self) -> bool:
        """Whether the values are FP8."""
        return self.dtype in fp8.TABLES

    def tensor(self) -> LazyTensor:
        """The tensor, not read yet. A scalar gets one dimension; FP8 becomes BF16.

        Raises UnsupportedType, or ConvertError for an invalid shape.
        """
        shape = self.shape or (1,)
        if self.dtype not in _TYPES and not self.is_fp8:
            raise unsupported(f"tensor '{self.name}' has", self.dtype)
        if self.unscaled:
            raise ConvertError(f"tensor '{self.name}' has no scales")
        if len(shape) > _MOST_DIMENSIONS or prod(shape) == 0:
            raise ConvertError(f"tensor '{self.name}' has the shape {list(shape)}")
        if self.is_fp8:
            return LazyTensor(Type.BF16, shape, tuple(self._decoded(shape)))
        return LazyTensor(_TYPES[self.dtype], shape, (self._read,))

    def _decoded(self, shape: tuple[int, ...]) -> Iterator[Callable[[], Array]]:
        """Readers for parts of an FP8 tensor, small because they are decoded in F32."""
        factors = self.scales.shape if self.scales else ()
        try:
            shared = fp8.shared_by(shape, factors, self.blocks)
        except ConvertError as error:
            raise ConvertError(f"tensor '{self.name}': {error}") from None
        rows = max(1, _DECODED_AT_ONCE // prod(shape[1:]))
        for start in range(0, shape[0], rows):
            yield partial(self._decode, (min(rows, shape[0] - start), *shape[1:]), start, shared)

    def _decode(self, shape: tuple[int, ...], start: int, shared: tuple[int, ...]) -> Array:
        numbers = self._values(np.dtype("u1"), shape, start * prod(shape[1:]))
        scales = self.scales.factors() if self.scales else np.ones((), np.float32)
        scales = scales.reshape(fp8.aligned(scales.shape, len(shape)))
        return cast(fp8.decode(numbers, self.dtype, scales, shared, start), Type.F32, Type.BF16)

    def factors(self) -> Array:
        """The values of a scale tensor in F32. Raises UnsupportedType."""
        if self.dtype in fp8.SCALES:
            return fp8.SCALES[self.dtype][self._values(np.dtype("u1"), self.shape)]
        if self.dtype not in _TYPES:
            raise UnsupportedType(f"the scales '{self.name}' have the type {self.dtype}")
        kind = _TYPES[self.dtype]
        return cast(self._values(DTYPES[kind], self.shape), kind, Type.F32)

    def _read(self) -> Array:
        return self._values(DTYPES[_TYPES[self.dtype]], self.shape or (1,))

    def _values(self, dtype: np.dtype[Any], shape: tuple[int, ...], first: int = 0) -> Array:
        """Read the values of `shape`, from value number `first` on. Raises ConvertError."""
        count = prod(shape)
        try:
            values: Array = np.fromfile(self.path, dtype, count, offset=self.start + first * dtype.itemsize)
        except OSError as error:
            raise ConvertError(f"tensor '{self.name}': {error.strerror}") from error
        if len(values) != count:
            raise ConvertError(f"tensor '{self.name}' is cut off")
        return values.reshape(shape)


def unsupported(what: str, dtype: str) -> UnsupportedType:
    """The error for an unsupported type; `what` is the start of the text."""
    return UnsupportedType(f"{what} the type {dtype}: only F32, F16, BF16, F8_E4M3 and F8_E5M2 can be converted")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint. `sources` are its tensors in file order."""

    files: Files
    config: Config
    sources: dict[str, TensorSource]


def open_checkpoint(files: Files) -> Checkpoint:
    """Read config.json and tensor headers, no values. Raises ConvertError."""
    config = Config(files.object("config.json"))
    if _INDEX in files:
        return Checkpoint(files, config, _scaled(_indexed(files), config))
    shards = [name for name in files.names(".safetensors") if name.startswith("model")] or files.names(".safetensors")
    return Checkpoint(files, config, _scaled(read_headers(files, shards), config))


def read_headers(files: Files, shards: Iterable[str]) -> dict[str, TensorSource]:
    """The tensors of several files. Raises ConvertError for a broken file or a repeated name."""
    sources: dict[str, TensorSource] = {}
    for shard in shards:
        for source in _read_header(shard, files.path(shard)):
            if source.name in sources:
                raise ConvertError(f"duplicate tensor name '{source.name}' was found for this model")
            sources[source.name] = source
    if not sources:
        raise ConvertError("no tensors were found")
    return sources


def _indexed(files: Files) -> dict[str, TensorSource]:
    """The tensors in model.safetensors.index.json; each must be in its file."""
    places = files.object(_INDEX).get("weight_map")
    if not isinstance(places, dict) or not all(isinstance(shard, str) for shard in places.values()):
        raise ConvertError(f"parse {_INDEX}: no weight_map")
    sources = read_headers(files, sorted(set(places.values())))
    if lost := sorted(name for name in places if name not in sources):
        raise ConvertError(f"tensor '{lost[0]}' is not in {places[lost[0]]}")
    return sources


def _scaled(sources: dict[str, TensorSource], config: Config) -> dict[str, TensorSource]:
    """The tensors with FP8 scales attached to their weights. Raises ConvertError."""
    pairs = {name: fp8.scale_name(name, sources) for name, source in sources.items() if source.is_fp8}
    if not pairs:
        return sources
    used = set(pairs.values()) - {None}
    blocks = fp8.read_blocks(config)
    some_have = bool(used) or fp8.is_quantized(config)
    scaled = {}
    for name, source in sources.items():
        if scales := pairs.get(name):
            scaled[name] = replace(source, scales=sources[scales], blocks=blocks)
        elif name not in used and not fp8.is_unused(name):
            scaled[name] = replace(source, unscaled=source.is_fp8 and some_have)
    return scaled


def _read_header(name: str, path: Path) -> list[TensorSource]:
    """The tensors of one file. The library validates the header and the file's length."""
    try:
        with safe_open(path, framework="numpy"), path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(blob_json.without_lone_surrogates(file.read(length)))
    except (SafetensorError, ValueError, RecursionError) as error:
        if match := _UNKNOWN_TYPE.search(str(error)):
            raise unsupported(f"{name} has a tensor of", match[1]) from error
        raise ConvertError(f"{name}: {error}") from error
    except OSError as error:
        raise ConvertError(f"open {name}: {error.strerror}") from error
    if any(len(tensor) > _LONGEST_NAME for tensor in header):
        raise ConvertError(f"{name}: the name of a tensor is too long")
    return [_source(path, tensor, entry, 8 + length) for tensor, entry in header.items() if tensor != "__metadata__"]


def _source(path: Path, name: str, entry: dict[str, Any], data: int) -> TensorSource:
    return TensorSource(path, name, entry["dtype"], tuple(entry["shape"]), data + entry["data_offsets"][0])
