"""Typed and bounded settings from a JSON file such as config.json, under any of several names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from modelfile.convert.errors import ConvertError

_LARGEST = (1 << 31) - 1  # llama.cpp's int32
_LARGEST_FLOAT = 1e38


class Config:
    """Settings; those in `text_config` win. A null counts as absent.

    Methods raise ConvertError for a wrong type or a value out of range.
    """

    def __init__(self, values: Mapping[str, Any], name: str = "config.json") -> None:
        self.name = name
        self.architectures = values.get("architectures")
        text = values.get("text_config")
        self._values = {**values, **text} if isinstance(text, dict) else values

    def get(self, *names: str) -> Any:
        """The first present value, else None."""
        return next((value for name in names if (value := self._values.get(name)) is not None), None)

    def integer_if_there(self, *names: str) -> int | None:
        """An integer from 0, or None."""
        return whole(f"{self.name}: {names[0]}", self.get(*names))

    def integer(self, *names: str, default: int | None = None) -> int:
        """An integer from 0."""
        value = self.integer_if_there(*names)
        value = default if value is None else value
        if value is None:
            raise ConvertError(f"{self.name}: {names[0]} is missing")
        return value

    def positive(self, *names: str, default: int | None = None) -> int:
        """An integer from 1."""
        value = self.integer(*names, default=default)
        if value == 0:
            raise ConvertError(f"{self.name}: {names[0]} is 0")
        return value

    def number_if_there(self, *names: str) -> float | None:
        """A finite number, or None."""
        return number(f"{self.name}: {names[0]}", self.get(*names))

    def number(self, *names: str, default: float | None = None) -> float:
        """A finite number."""
        value = self.number_if_there(*names)
        value = default if value is None else value
        if value is None:
            raise ConvertError(f"{self.name}: {names[0]} is missing")
        return value

    def expect(self, name: str, *allowed: Any) -> None:
        """Raise ConvertError unless a setting is absent or has a value that llama.cpp supports."""
        value = self.get(name)
        if value is not None and value not in allowed:
            raise ConvertError(f"{self.name}: {name} {value!r} is not supported")


def whole(what: str, value: Any) -> int | None:
    """Check an integer from 0 to 2^31 - 1; None stays None. Raises ConvertError, which names `what`."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _LARGEST:
        raise ConvertError(f"{what} is no sensible number")
    return value


def number(what: str, value: Any) -> float | None:
    """Check a number that F32 can hold; None stays None. Raises ConvertError, which names `what`."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= _LARGEST_FLOAT:  # nor NaN
        raise ConvertError(f"{what} is no sensible number")
    return float(value)
