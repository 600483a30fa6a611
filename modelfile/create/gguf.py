"""GGUF files: what each of them is for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from modelfile.create.errors import CreateError
from registry import manifest as kinds
from registry.gguf import GGUFError, GGUFHeader, read_header

_TYPES = {"adapter": kinds.ADAPTER, "projector": kinds.PROJECTOR, "mmproj": kinds.PROJECTOR}
_ENCODERS = ("clip.has_vision_encoder", "clip.has_audio_encoder")


def read_gguf(path: Path) -> GGUFHeader:
    """The header of an uploaded file, checked against the file's length; blocking. Raises CreateError."""
    try:
        header = read_header(path)
        header.require_sizes()
        return header
    except GGUFError as error:
        raise CreateError(str(error)) from None


def media_type(header: GGUFHeader) -> str:
    """Which kind of layer a file becomes: a model, unless it says otherwise."""
    kind = header.metadata.get("general.type")
    if isinstance(kind, str) and kind in _TYPES:
        return _TYPES[kind]
    return kinds.PROJECTOR if _is_projector(header) else kinds.MODEL


def _is_projector(header: GGUFHeader) -> bool:
    if header.field("block_count") is not None:
        return False
    if _positive(header.field("vision.block_count")):
        return True
    return header.architecture == "clip" and any(header.metadata.get(key) is True for key in _ENCODERS)


def _positive(value: Any) -> bool:
    return isinstance(value, int) and value > 0
