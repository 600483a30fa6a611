"""What a request says about the model in so many words, instead of its weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from modelfile.create.errors import CreateError

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
