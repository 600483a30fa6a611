"""What a model is to be made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from modelfile.conversation import Message
from registry.names import Digest, ModelName

FileMap = Mapping[str, Digest | Path]
"""Files: their names, with `/` between folders, and the blobs that they were uploaded as. A path is a file of this
machine that somebody at this machine named."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateRequest:
    """A model to be made. None means that nothing was said, which an empty map is not.

    `base` is the model that it is derived from, `adapters` has the files of each adapter. With a base, `files` may add
    to it but not replace its weights. `parameters` and `info` are JSON as it came. Empty texts change nothing.
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


# Why a model cannot be made.


class CreateError(ValueError):
    """What was asked for cannot be made; the text is for the user."""


# What a request says about the model in so many words, instead of its weights.

_MOST = 1 << 53  # JSON numbers beyond are not exact


@dataclass(frozen=True, slots=True, kw_only=True)
class Info:
    """Known facts; what is empty or 0 is read off the weights, or left out."""

    capabilities: tuple[str, ...] = ()
    model_family: str = ""
    base_name: str = ""
    quantization_level: str = ""
    parameter_size: str = ""
    context_length: int = 0
    embedding_length: int = 0


def read_info(given: Mapping[str, Any]) -> Info:
    """The facts in a map; names that nobody knows are passed over. Raises CreateError."""
    return Info(
        capabilities=_texts(given.get("capabilities")),
        model_family=_text(given, "model_family"),
        base_name=_text(given, "base_name"),
        quantization_level=_text(given, "quantization_level"),
        parameter_size=_text(given, "parameter_size"),
        context_length=_count(given, "context_length"),
        embedding_length=_count(given, "embedding_length"),
    )


def _texts(value: Any) -> tuple[str, ...]:
    """A list of names; whatever is none counts as an empty one."""
    return tuple(item if isinstance(item, str) else "" for item in value) if isinstance(value, list) else ()


def _text(given: Mapping[str, Any], key: str) -> str:
    value = given.get(key, "")
    if not isinstance(value, str):
        raise CreateError(f'info field "{key}" must be a string')
    return value


def _count(given: Mapping[str, Any], key: str) -> int:
    value = given.get(key, 0)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise CreateError(f'info field "{key}" must be a number')
    if not 0 <= value < _MOST or value != int(value):
        raise CreateError(f'info field "{key}" must be a non-negative integer')
    return int(value)
