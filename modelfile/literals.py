"""Parses PARAMETER values of a Modelfile: numbers and booleans in Go's syntax, maps in JSON.

The types of parameters are in `modelfile.parameters`.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any

from modelfile.parameters import PARAMETERS, OptionError, Parameter
from modelfile.text import shortest_float32, to_float32

DEPRECATED = frozenset({"low_vram", "f16_kv", "logits_all", "vocab_only", "use_mlock"})

_INT64 = range(-(2**63), 2**63)
_INTEGER = re.compile(r"([+-]?)0*([0-9]{1,19})")
_FLOAT = re.compile(r"[0-9a-fA-FxXpP+\-._]+")  # characters of a float: no blanks, no inf, no nan
_BOOLEANS = dict.fromkeys(("1", "t", "T", "TRUE", "true", "True"), True)
_BOOLEANS |= dict.fromkeys(("0", "f", "F", "FALSE", "false", "False"), False)


def add_parameter(parameters: dict[str, Any], name: str, text: str) -> None:
    """Parse one PARAMETER command into `parameters`. Values of lists add up; otherwise the last one wins.

    A number out of range is kept as it is: `modelfile.parameters.usable` takes the nearest end when it is used.

    Raises OptionError for an unknown name or a wrong type.
    """
    if name not in PARAMETERS:
        raise OptionError(f"unknown parameter '{name}'")
    row = PARAMETERS[name]
    value = _read(row, text)
    if isinstance(value, list):
        value = parameters.get(name, []) + value
    row.nearest(value)
    parameters[name] = value


def _read(row: Parameter, text: str) -> Any:
    match row.type:
        case "integer":
            return _integer(text)
        case "float32":
            return _float32(text)
        case "boolean":
            return _boolean(text)
        case "map":
            return {str(token): float(bias) for token, bias in row.parse(_json(text))}
        case "array":
            return [text]


def _integer(text: str) -> int:
    match = _INTEGER.fullmatch(text)
    if match is None or (value := int(match[1] + match[2])) not in _INT64:
        raise OptionError(f"invalid int value [{text}]")
    return value


def _float32(text: str) -> float:
    """The number with the fewest digits that rounds to the same float32."""
    value = to_float32(_float64(text))
    if math.isinf(value):
        raise _not_a_float(text)
    return shortest_float32(value)


def _float64(text: str) -> float:
    """A decimal number, or a hexadecimal one with an exponent."""
    lower = text.lower()
    if not _FLOAT.fullmatch(text) or ("x" in lower and "p" not in lower):
        raise _not_a_float(text)
    try:
        return float.fromhex(text) if "x" in lower else float(text)
    except OverflowError:
        return math.inf
    except ValueError:
        raise _not_a_float(text) from None


def _not_a_float(text: str) -> OptionError:
    return OptionError(f"invalid float value [{text}]")


def _boolean(text: str) -> bool:
    if text not in _BOOLEANS:
        raise OptionError(f"invalid bool value [{text}]")
    return _BOOLEANS[text]


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise OptionError(f"invalid map value [{text}]") from None
