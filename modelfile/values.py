"""Option values from JSON: each checker gives a safe Python value or raises OptionError."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from typing import Any

MOST_STRINGS = 64
LONGEST_STRING = 256  # bytes of UTF-8
MOST_BIASES = 1024


class OptionError(ValueError):
    """An option has a value that cannot be used; the text is for the user."""


def integer(name: str, value: Any, minimum: int, maximum: int) -> int:
    """A whole number: fractions are cut off, whatever is out of range becomes the nearest end."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise OptionError(f'option "{name}" must be of type integer')
    if isinstance(value, float) and not math.isfinite(value):
        return maximum if value > 0 else minimum  # NaN compares false: the low end
    return min(max(int(value), minimum), maximum)


def number(name: str, value: Any, minimum: float, maximum: float, default: float) -> float:
    """A number: whatever is out of range becomes the nearest end, NaN the default."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise OptionError(f'option "{name}" must be of type float32')
    # Clamped before the conversion: a JSON integer may be too large for a float.
    return default if value != value else float(min(max(value, minimum), maximum))


def boolean(name: str, value: Any) -> bool:
    """True or false, nothing that could be read as one."""
    if not isinstance(value, bool):
        raise OptionError(f'option "{name}" must be of type boolean')
    return value


def strings(name: str, value: Any) -> tuple[str, ...]:
    """A list of texts; a single text is a list of one. Empty ones are dropped, they would match everywhere."""
    if isinstance(value, str):
        value = [value]
    if not isinstance(value, list | tuple):
        raise OptionError(f'option "{name}" must be of type array')
    if not all(isinstance(item, str) for item in value):
        raise OptionError(f'option "{name}" must be of an array of strings')
    if len(value) > MOST_STRINGS or any(len(item.encode(errors="replace")) > LONGEST_STRING for item in value):
        raise OptionError(f'option "{name}" must have at most {MOST_STRINGS} strings of {LONGEST_STRING} bytes')
    return tuple(item for item in value if item)


def token_biases(name: str, value: Any, minimum: float, maximum: float) -> tuple[tuple[int, float], ...]:
    """Token ids with what is added to their logits, from an object or from a list of pairs; false means never."""
    if isinstance(value, Mapping):
        pairs: Iterable[Any] = value.items()
    elif isinstance(value, list | tuple):
        pairs = value
    else:
        raise OptionError(f'option "{name}" must be of type map')
    found = {}
    for pair in pairs:
        token, bias = _pair(name, pair)
        found[token] = minimum if bias is False else number(name, bias, minimum, maximum, 0.0)
    if len(found) > MOST_BIASES:
        raise OptionError(f'option "{name}" must have at most {MOST_BIASES} tokens')
    return tuple(found.items())


def _pair(name: str, pair: Any) -> tuple[int, Any]:
    if isinstance(pair, list | tuple) and len(pair) == 2:
        token, bias = pair
        if isinstance(token, str) and token.isdecimal() and len(token) < 10:
            token = int(token)
        if isinstance(token, int) and not isinstance(token, bool) and 0 <= token < 1 << 31:
            return token, bias
    raise OptionError(f'option "{name}" must map token ids to numbers')


def shown(value: Any) -> str:
    """A value as the documentation shows it."""
    if value is None:
        return "automatic"
    if isinstance(value, float):
        return f"{value:g}"
    return "none" if value == () else json.dumps(value).replace("|", "\\|")
