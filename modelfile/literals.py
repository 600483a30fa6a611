"""Values of parameters as a Modelfile writes them: numbers and booleans in Go's syntax, maps in JSON.

Which parameter has which type stands in the one table, `modelfile.parameters`.
"""

from __future__ import annotations

import json
import math
import re
import struct
from typing import Any

from modelfile.parameters import PARAMETERS, OptionError, Parameter

DEPRECATED = frozenset({"low_vram", "f16_kv", "logits_all", "vocab_only", "use_mlock"})

_INT64 = range(-(2**63), 2**63)
_INTEGER = re.compile(r"([+-]?)0*([0-9]{1,19})")
_FLOAT = re.compile(r"[0-9a-fA-FxXpP+\-._]+")  # what a float may consist of: no blanks, no inf, no nan
_BOOLEANS = dict.fromkeys(("1", "t", "T", "TRUE", "true", "True"), True)
_BOOLEANS |= dict.fromkeys(("0", "f", "F", "FALSE", "false", "False"), False)


def add_parameter(parameters: dict[str, Any], name: str, text: str) -> None:
    """Read the value of one PARAMETER command into `parameters`. Lists grow, of everything else the last counts.

    Raises OptionError for an unknown name and for a value of another type.
    """
    if name not in PARAMETERS:
        raise OptionError(f"unknown parameter '{name}'")
    row = PARAMETERS[name]
    value = _read(row, text)
    if isinstance(value, list):
        value = parameters.get(name, []) + value
    row.parse(value)
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
    found = _INTEGER.fullmatch(text)
    if found is None or (value := int(found[1] + found[2])) not in _INT64:
        raise OptionError(f"invalid int value [{text}]")
    return value


def _float32(text: str) -> float:
    """The number with the fewest digits that is the same float32."""
    value = _to_float32(_float64(text))
    if math.isinf(value):
        raise _not_a_float(text)
    digits = (float(f"{value:.{precision}g}") for precision in range(1, 10))
    return next(short for short in digits if _to_float32(short) == value)


def _float64(text: str) -> float:
    """A decimal number, or a hexadecimal one, which must have an exponent."""
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


def _to_float32(value: float) -> float:
    """The nearest float32, infinite beyond the largest."""
    try:
        return float(struct.unpack("<f", struct.pack("<f", value))[0])
    except OverflowError:
        return math.inf


def _boolean(text: str) -> bool:
    if text not in _BOOLEANS:
        raise OptionError(f"invalid bool value [{text}]")
    return _BOOLEANS[text]


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise OptionError(f"invalid map value [{text}]") from None
