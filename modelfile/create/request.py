"""The request to create a model, and why it may fail."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from modelfile.conversation import Message
from registry.names import Digest, ModelName

FileMap = Mapping[str, Digest | Path]
"""File names, with `/` between folders, to uploaded blobs, or to local paths from a local client."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateRequest:
    """A model to create. None means absent, unlike an empty map.

    `base` is the model to derive from; then `files` may add to its weights, not replace them. `adapters` has the files
    of each adapter. `parameters` and `info` are unchecked JSON. Empty texts change nothing.
    """

    name: ModelName
    base: ModelName | None = None
    files: FileMap | None = None
    adapters: tuple[FileMap, ...] = ()
    drafts: FileMap | None = None
    quantize: str = ""
    draft_quantize: str = ""
    template: str = ""
    system: str = ""
    licenses: tuple[str, ...] = ()
    parameters: Mapping[str, Any] = field(default_factory=dict)
    messages: tuple[Message, ...] = ()
    renderer: str = ""
    parser: str = ""
    requires: str = ""
    info: Mapping[str, Any] = field(default_factory=dict)


class CreateError(ValueError):
    """The model cannot be created; the text is for the user."""


_MOST = 1 << 53  # JSON numbers beyond are not exact


@dataclass(frozen=True, slots=True, kw_only=True)
class Info:
    """Facts stated by the request; an empty or 0 field is read from the weights, or left out."""

    capabilities: tuple[str, ...] = ()
    model_family: str = ""
    base_name: str = ""
    quantization_level: str = ""
    parameter_size: str = ""
    context_length: int = 0
    embedding_length: int = 0


def read_info(info: Mapping[str, Any]) -> Info:
    """Parse `info`; unknown keys are ignored. Raises CreateError."""
    return Info(
        capabilities=_texts(info.get("capabilities")),
        model_family=_text(info, "model_family"),
        base_name=_text(info, "base_name"),
        quantization_level=_text(info, "quantization_level"),
        parameter_size=_text(info, "parameter_size"),
        context_length=_count(info, "context_length"),
        embedding_length=_count(info, "embedding_length"),
    )


def _texts(value: Any) -> tuple[str, ...]:
    """A list of strings; other items count as empty ones."""
    return tuple(item if isinstance(item, str) else "" for item in value) if isinstance(value, list) else ()


def _text(info: Mapping[str, Any], key: str) -> str:
    value = info.get(key, "")
    if not isinstance(value, str):
        raise CreateError(f'info field "{key}" must be a string')
    return value


def _count(info: Mapping[str, Any], key: str) -> int:
    value = info.get(key, 0)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise CreateError(f'info field "{key}" must be a number')
    if not 0 <= value < _MOST or value != int(value):
        raise CreateError(f'info field "{key}" must be a non-negative integer')
    return int(value)
