"""Values that a model wrote as bare text, turned into what the tool's schema asks for."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

from engine.chat.tools.jsontext import BadJSON, parse
from engine.chat.tools.literals import python_value

JSON_TYPES = frozenset({"boolean", "integer", "number", "array", "object"})
_INTEGER = re.compile(r"[+-]?[0-9]{1,4000}")
_NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")


def typed(text: str, types: frozenset[str]) -> Any:
    """`text` as the first of the types that it fits; as it stands when nothing is declared or nothing fits.

    `null` is None whatever is declared, and what should be a boolean and nothing else is never anything else.
    """
    if text.lower() == "null":
        return None
    for kind, read in _READERS.items():
        if kind in types:
            try:
                return read(text)
            except ValueError:
                continue
    return False if types == {"boolean"} else text


def _boolean(text: str) -> bool:
    if (lower := text.lower()) not in ("true", "false"):
        raise ValueError(text)
    return lower == "true"


def _integer(text: str) -> int:
    if not _INTEGER.fullmatch(text):
        raise ValueError(text)
    return int(text)


def _number(text: str) -> int | float:
    if _INTEGER.fullmatch(text):
        return int(text)
    if not _NUMBER.fullmatch(text) or not math.isfinite(value := float(text)):
        raise ValueError(text)
    return int(value) if value.is_integer() else value


def _array(text: str) -> list[Any]:
    if not isinstance(value := _composite(text), list):
        raise ValueError(text)
    return value


def _object(text: str) -> dict[str, Any]:
    if not isinstance(value := _composite(text), dict):
        raise ValueError(text)
    return value


def _composite(text: str) -> Any:
    """JSON, or Python's notation: some templates show the model nothing else."""
    try:
        return parse(text)
    except BadJSON:
        return python_value(text)


_READERS: dict[str, Callable[[str], Any]] = {
    "boolean": _boolean,
    "integer": _integer,
    "number": _number,
    "array": _array,
    "object": _object,
}
"""In the order in which they are tried: the strictest first."""
