"""The parts of a layout's declaration, and helpers that read published headers."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from registry.gguf import GGUFArray, GGUFHeader, TensorInfo
from registry.gguf.raw import Value
from registry.gguf.types import INT32, STRING, UINT32

MetadataValue = Value | Callable[[GGUFHeader], Value | None]
"""A metadata value, or a function that reads it from the published header; None changes nothing."""


@dataclass(frozen=True, slots=True)
class AsF32:
    """Store 16-bit floats as F32."""


@dataclass(frozen=True, slots=True)
class PairedRows:
    """Interleave the two halves of each attention head's rows; `heads` is the metadata key of the number of heads."""

    heads: str


Change = AsF32 | PairedRows


@dataclass(frozen=True, slots=True, kw_only=True)
class GGUFRewrite:
    """How to make one file from a published one. Tensors are selected by regular expressions on published names.

    `architecture` is the new one; with `keeps_metadata`, its prefix replaces the old one's. Then, by new key: `moved`
    takes an entry of the published file, `defaults` fills gaps, `values` overrides. `vocabulary` names the tensor with
    a row per token; token lists are cut to its rows. `shortened` maps a tensor to one whose row count it gets.
    `zeros` are additional tensors, with the metadata key of their length.
    """

    architecture: str
    tensors: str = ""
    without_tensors: str = "(?!)"  # none
    renamed: Mapping[str, str] = field(default_factory=dict)
    changed: Mapping[str, Change] = field(default_factory=dict)
    shortened: Mapping[str, str] = field(default_factory=dict)
    zeros: Mapping[str, str] = field(default_factory=dict)
    keeps_metadata: bool = True
    without_keys: tuple[str, ...] = ()
    moved: Mapping[str, str] = field(default_factory=dict)
    defaults: Mapping[str, MetadataValue] = field(default_factory=dict)
    values: Mapping[str, MetadataValue] = field(default_factory=dict)
    vocabulary: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class OllamaLayout:
    """A layout of published files. `matches` recognises its headers; `version` grows when the output changes."""

    name: str
    version: int
    matches: Callable[[GGUFHeader], bool]
    text: GGUFRewrite
    projector: GGUFRewrite | None = None

    def forms(self, header: GGUFHeader) -> dict[str, GGUFRewrite]:
        """The rewrites for a file, by form (the name in the store); the language model last."""
        made: dict[str, GGUFRewrite] = {}
        if self.projector is not None and any(tensor.name.startswith("v.") for tensor in header.tensors):
            made["projector"] = self.projector
        made["text"] = self.text
        return {f"{self.name}-{self.version}-{part}": rewrite for part, rewrite in made.items()}


VISION = r"(v|mm)\."
"""Pattern for tensors of a vision model and its projector."""


def vision_sizes(architecture: str, *names: str) -> dict[str, str]:
    """Metadata keys of a vision model: the projector file's to the published ones of this architecture."""
    return {f"clip.vision.{name}": f"{architecture}.vision.{name}" for name in names}


def tensor(header: GGUFHeader, name: str) -> TensorInfo | None:
    """The tensor of this name, or None."""
    return next((tensor for tensor in header.tensors if tensor.name == name), None)


def has_tensor(header: GGUFHeader, pattern: str) -> bool:
    """Whether the pattern matches the start of a tensor's name."""
    matches = re.compile(pattern).match
    return any(matches(tensor.name) for tensor in header.tensors)


def has_key(header: GGUFHeader, *keys: str) -> bool:
    """Whether the metadata have one of these keys."""
    return any(key in header.metadata for key in keys)


def is_of(architecture: str) -> Callable[[GGUFHeader], bool]:
    """A predicate for headers of this architecture."""
    return lambda header: header.architecture == architecture


def rows(name: str, dimension: int = 1) -> Callable[[GGUFHeader], int | None]:
    """A function that reads a tensor's rows (or with `dimension` 0 the length of a row); None without the tensor."""

    def read(header: GGUFHeader) -> int | None:
        info = tensor(header, name)
        return None if info is None or len(info.shape) <= dimension else info.shape[dimension]

    return read


def pre_unless_known(name: str) -> Callable[[GGUFHeader], str | None]:
    """A function that gives this pre-tokenizer for files without one."""

    def read(header: GGUFHeader) -> str | None:
        return name if header.metadata.get("tokenizer.ggml.pre", "default") in ("", "default") else None

    return read


def texts(header: GGUFHeader, key: str) -> list[str]:
    """A metadata array of strings, empty if missing. Reads the file."""
    array = header.metadata.get(key)
    return array.values() if isinstance(array, GGUFArray) and array.kind == STRING else []


def numbers(header: GGUFHeader, key: str) -> list[int]:
    """A metadata array of 32-bit integers, empty if missing. Reads the file."""
    array = header.metadata.get(key)
    return array.values() if isinstance(array, GGUFArray) and array.kind in (UINT32, INT32) else []
