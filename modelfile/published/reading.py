"""What layouts are known by, and what is read off a published header."""

from __future__ import annotations

import re
from collections.abc import Callable

from registry.gguf import GGUFArray, GGUFHeader, TensorInfo
from registry.gguf.types import INT32, STRING, UINT32

VISION = r"(v|mm)\."
"""The names of the tensors of a vision model and its projector."""


def vision_sizes(architecture: str, *names: str) -> dict[str, str]:
    """Entries on a vision model, by their keys in a projector's file and in a published one of this architecture."""
    return {f"clip.vision.{name}": f"{architecture}.vision.{name}" for name in names}


def tensor(header: GGUFHeader, name: str) -> TensorInfo | None:
    """A tensor by its name, None if there is none."""
    return next((tensor for tensor in header.tensors if tensor.name == name), None)


def has_tensor(header: GGUFHeader, pattern: str) -> bool:
    """Whether there is a tensor whose name begins as the pattern says."""
    found = re.compile(pattern).match
    return any(found(tensor.name) for tensor in header.tensors)


def has_key(header: GGUFHeader, *keys: str) -> bool:
    """Whether one of these is in the metadata."""
    return any(key in header.metadata for key in keys)


def is_of(architecture: str) -> Callable[[GGUFHeader], bool]:
    """Whether a file is of an architecture whose name only such files have."""
    return lambda header: header.architecture == architecture


def rows(name: str, dimension: int = 1) -> Callable[[GGUFHeader], int | None]:
    """How many rows a tensor has, or how many numbers are in one, dimension 0; None if there is no such tensor."""

    def read(header: GGUFHeader) -> int | None:
        found = tensor(header, name)
        return None if found is None or len(found.shape) <= dimension else found.shape[dimension]

    return read


def pre_unless_known(name: str) -> Callable[[GGUFHeader], str | None]:
    """The name of how texts are split, for files that do not say."""

    def read(header: GGUFHeader) -> str | None:
        return name if header.metadata.get("tokenizer.ggml.pre", "default") in ("", "default") else None

    return read


def texts(header: GGUFHeader, key: str) -> list[str]:
    """A list of texts, empty if there is none. Reads the file."""
    found = header.metadata.get(key)
    return found.values() if isinstance(found, GGUFArray) and found.kind == STRING else []


def numbers(header: GGUFHeader, key: str) -> list[int]:
    """A list of whole numbers of 32 bits, empty if there is none. Reads the file."""
    found = header.metadata.get(key)
    return found.values() if isinstance(found, GGUFArray) and found.kind in (UINT32, INT32) else []
