"""What a folder of safetensors holds: the settings, and where each tensor's values are."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGMLQuantizationType as Type
from safetensors import SafetensorError, safe_open

from modelfile.convert.config import Config
from modelfile.convert.errors import ConvertError
from modelfile.convert.files import Files
from modelfile.convert.tensor import DTYPES, Array, Tensor

_INDEX = "model.safetensors.index.json"
_TYPES = {"F32": Type.F32, "F16": Type.F16, "BF16": Type.BF16}
_MOST_DIMENSIONS = 4
_LONGEST_NAME = 512


@dataclass(frozen=True, slots=True)
class Source:
    """Where the values of a tensor are in a file. `dtype` is what the file calls their type."""

    path: Path
    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int

    def tensor(self) -> Tensor:
        """The tensor, not read yet; a single number has one dimension. Raises ConvertError if it has a strange type."""
        shape = self.shape or (1,)
        if self.dtype not in _TYPES:
            raise ConvertError(
                f"tensor '{self.name}' has the type {self.dtype}: only F32, F16 and BF16 can be converted"
            )
        if len(shape) > _MOST_DIMENSIONS or prod(shape) == 0:
            raise ConvertError(f"tensor '{self.name}' has the shape {list(shape)}")
        return Tensor(_TYPES[self.dtype], shape, (self._read,))

    def _read(self) -> Array:
        count = prod(self.shape)
        try:
            values: Array = np.fromfile(self.path, DTYPES[_TYPES[self.dtype]], count, offset=self.start)
        except OSError as error:
            raise ConvertError(f"tensor '{self.name}': {error.strerror}") from error
        if len(values) != count:
            raise ConvertError(f"tensor '{self.name}' is cut off")
        return values.reshape(self.shape or (1,))


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A model as it was published. `sources` keeps the order of the files."""

    files: Files
    config: Config
    sources: dict[str, Source]


def open_checkpoint(files: Files) -> Checkpoint:
    """Read settings and headers, no values. Raises ConvertError."""
    config = Config(files.object("config.json"))
    if _INDEX in files:
        return Checkpoint(files, config, _indexed(files))
    shards = [name for name in files.names(".safetensors") if name.startswith("model")] or files.names(".safetensors")
    return Checkpoint(files, config, read_headers(files, shards))


def read_headers(files: Files, shards: Iterable[str]) -> dict[str, Source]:
    """The tensors of several files. Raises ConvertError for a broken file and for a name that comes twice."""
    found: dict[str, Source] = {}
    for shard in shards:
        for source in _read_header(shard, files.path(shard)):
            if source.name in found:
                raise ConvertError(f"duplicate tensor name '{source.name}' was found for this model")
            found[source.name] = source
    if not found:
        raise ConvertError("no tensors were found")
    return found


def _indexed(files: Files) -> dict[str, Source]:
    """The tensors that an index lists; each must be in the file that it names."""
    places = files.object(_INDEX).get("weight_map")
    if not isinstance(places, dict) or not all(isinstance(shard, str) for shard in places.values()):
        raise ConvertError(f"parse {_INDEX}: no weight_map")
    found = read_headers(files, sorted(set(places.values())))
    if lost := sorted(name for name in places if name not in found):
        raise ConvertError(f"tensor '{lost[0]}' is not in {places[lost[0]]}")
    return found


def _read_header(name: str, path: Path) -> list[Source]:
    """The tensors of one file. The library checks the header against itself and the length of the file."""
    try:
        with safe_open(path, framework="numpy"), path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(length))
    except (SafetensorError, ValueError, RecursionError) as error:
        raise ConvertError(f"{name}: {error}") from error
    except OSError as error:
        raise ConvertError(f"open {name}: {error.strerror}") from error
    if any(len(tensor) > _LONGEST_NAME for tensor in header):
        raise ConvertError(f"{name}: the name of a tensor is too long")
    return [_source(path, tensor, entry, 8 + length) for tensor, entry in header.items() if tensor != "__metadata__"]


def _source(path: Path, name: str, entry: dict[str, Any], data: int) -> Source:
    return Source(path, name, entry["dtype"], tuple(entry["shape"]), data + entry["data_offsets"][0])
