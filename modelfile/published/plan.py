"""Plans a rewritten file: its metadata and tensors, before anything is written."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from modelfile.published.layout import AsF32, Change, GGUFRewrite, MetadataValue, rows
from registry.gguf import GGUFHeader, TensorInfo
from registry.gguf.raw import Scalar, cut_array, decode_scalar, encode_header, encode_value, read_entries
from registry.gguf.types import ALIGNMENT, aligned

_LONGEST_OVERRIDE = 127  # bytes of a string in `llama_model_kv_override`
_OF_TOKENS = ("tokenizer.ggml.tokens", "tokenizer.ggml.scores", "tokenizer.ggml.token_type")
_ARCHITECTURE, _ALIGNMENT_KEY = "general.architecture", "general.alignment"
_WIDTHS = {"F16": 2, "BF16": 2}
_F32_WIDTH = 4


@dataclass(frozen=True, slots=True)
class PlannedTensor:
    """A tensor of the new file and its source: all or part of a published tensor; None for zeros."""

    tensor: TensorInfo
    source: TensorInfo | None
    change: Change | None = None


@dataclass(frozen=True)
class RewritePlan:
    """A file to make from the published `source`. `entries` are its encoded metadata."""

    source: Path
    published: GGUFHeader
    entries: Mapping[str, bytes]
    parts: tuple[PlannedTensor, ...]

    @cached_property
    def header(self) -> bytes:
        """The encoded header."""
        return encode_header(self.entries, [part.tensor for part in self.parts], ALIGNMENT)

    @property
    def size(self) -> int:
        """Bytes of the whole file."""
        return len(self.header) + sum(aligned(part.tensor.size, ALIGNMENT) for part in self.parts)

    def overrides(self) -> dict[str, Scalar] | None:
        """Metadata overrides (`llama_model_kv_override`) that make the published file itself loadable, or None.

        Reads the file. Raises GGUFError or FileNotFoundError.
        """
        if [part.tensor[:3] for part in self.parts] != [tensor[:3] for tensor in self.published.tensors]:
            return None
        if any(part.change is not None for part in self.parts):
            return None
        before = dict(read_entries(self.source, self.published))
        before.pop(_ALIGNMENT_KEY, None)
        if before.keys() - self.entries.keys() or before[_ARCHITECTURE] != self.entries[_ARCHITECTURE]:
            return None
        changed = {key: value for key, value in self.entries.items() if before.get(key) != value}
        scalars = {key: scalar for key, value in changed.items() if (scalar := decode_scalar(value)) is not None}
        return scalars if len(scalars) == len(changed) and all(map(_is_short, scalars.values())) else None


def plan(rewrite: GGUFRewrite, source: Path, header: GGUFHeader) -> RewritePlan:
    """Plan the rewrite of a published file. Raises GGUFError or FileNotFoundError."""
    return RewritePlan(source, header, _entries(rewrite, source, header), tuple(_parts(rewrite, header)))


def _entries(rewrite: GGUFRewrite, source: Path, header: GGUFHeader) -> dict[str, bytes]:
    published = dict(read_entries(source, header))
    entries = dict(_kept(rewrite, published, header.architecture)) if rewrite.keeps_metadata else {}
    for new, old in rewrite.moved.items():
        if old in published:
            entries.setdefault(new, published[old])
    for key, value in rewrite.defaults.items():
        if key not in entries:
            _set(entries, key, value, header)
    for key, value in rewrite.values.items():
        _set(entries, key, value, header)
    if (tokens := rows(rewrite.vocabulary)(header)) is not None:
        entries |= {key: cut_array(entries[key], tokens) for key in _OF_TOKENS if key in entries}
    return {_ARCHITECTURE: encode_value(rewrite.architecture)} | entries


def _kept(rewrite: GGUFRewrite, published: Mapping[str, bytes], architecture: str) -> Iterator[tuple[str, bytes]]:
    """The metadata to keep, under the new architecture's prefix."""
    old = f"{architecture}."
    for key, value in published.items():
        if key not in (_ARCHITECTURE, _ALIGNMENT_KEY, *rewrite.without_keys):
            rest = key.removeprefix(old)
            yield (key if rest == key else f"{rewrite.architecture}.{rest}"), value


def _set(entries: dict[str, bytes], key: str, override: MetadataValue, header: GGUFHeader) -> None:
    value = override(header) if callable(override) else override
    if value is not None:
        entries[key] = encode_value(value)


def _parts(rewrite: GGUFRewrite, header: GGUFHeader) -> Iterator[PlannedTensor]:
    """The tensors with their offsets."""
    offset = 0
    for part in (*_taken(rewrite, header), *_zeros(rewrite, header)):
        yield PlannedTensor(part.tensor._replace(offset=offset), part.source, part.change)
        offset += aligned(part.tensor.size, ALIGNMENT)


def _taken(rewrite: GGUFRewrite, header: GGUFHeader) -> Iterator[PlannedTensor]:
    for tensor in header.tensors:
        if re.match(rewrite.tensors, tensor.name) and not re.match(rewrite.without_tensors, tensor.name):
            change = _change(rewrite, tensor)
            source = _shortened(tensor, rows(rewrite.shortened.get(tensor.name, ""))(header))
            made = _in_32_bits(source) if isinstance(change, AsF32) else source
            yield PlannedTensor(made._replace(name=_renamed(rewrite, tensor.name)), source, change)


def _change(rewrite: GGUFRewrite, tensor: TensorInfo) -> Change | None:
    for pattern, change in rewrite.changed.items():
        if re.match(pattern, tensor.name) and (not isinstance(change, AsF32) or tensor.type in _WIDTHS):
            return change
    return None


def _shortened(tensor: TensorInfo, count: int | None) -> TensorInfo:
    """The tensor cut to `count` rows, if it has more."""
    if count is None or not tensor.shape or count >= tensor.shape[-1]:
        return tensor
    return tensor._replace(shape=(*tensor.shape[:-1], count), size=tensor.size // tensor.shape[-1] * count)


def _in_32_bits(tensor: TensorInfo) -> TensorInfo:
    return tensor._replace(type="F32", size=tensor.size // _WIDTHS[tensor.type] * _F32_WIDTH)


def _renamed(rewrite: GGUFRewrite, name: str) -> str:
    for pattern, replacement in rewrite.renamed.items():
        name = re.sub(pattern, replacement, name, count=1)
    return name


def _zeros(rewrite: GGUFRewrite, header: GGUFHeader) -> Iterator[PlannedTensor]:
    for name, key in rewrite.zeros.items():
        count = header.metadata.get(key)
        if isinstance(count, int) and count > 0:
            yield PlannedTensor(TensorInfo(name, "F32", (count,), 0, count * _F32_WIDTH), None)


def _is_short(value: Scalar) -> bool:
    return not isinstance(value, str) or len(value.encode()) <= _LONGEST_OVERRIDE
