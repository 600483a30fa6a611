"""Settings from a JSON file, such as config.json: typed, bounded, under any of the names that they go by."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from modelfile.convert.errors import ConvertError

_LARGEST = (1 << 31) - 1  # what the runner's integers hold
_LARGEST_FLOAT = 1e38


class Config:
    """Settings; those of the text model come before those of the whole. A null counts as absent.

    All methods raise ConvertError for a value of another type or out of any sensible range.
    """

    def __init__(self, values: Mapping[str, Any], name: str = "config.json") -> None:
        self.name = name
        self.architectures = values.get("architectures")
        text = values.get("text_config")
        self._values = {**values, **text} if isinstance(text, dict) else values

    def get(self, *names: str) -> Any:
        """The first value that is there, else None."""
        return next((value for name in names if (value := self._values.get(name)) is not None), None)

    def integer_if_there(self, *names: str) -> int | None:
        """A whole number from 0, or None."""
        return whole(f"{self.name}: {names[0]}", self.get(*names))

    def integer(self, *names: str, default: int | None = None) -> int:
        """A whole number from 0."""
        value = self.integer_if_there(*names)
        value = default if value is None else value
        if value is None:
            raise ConvertError(f"{self.name}: {names[0]} is missing")
        return value

    def positive(self, *names: str, default: int | None = None) -> int:
        """A whole number from 1."""
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
        """Refuse a setting that the runner's code for this architecture does not know; absent is fine."""
        value = self.get(name)
        if value is not None and value not in allowed:
            raise ConvertError(f"{self.name}: {name} {value!r} is not supported")


def whole(what: str, value: Any) -> int | None:
    """A whole number from 0 that 32 bits can hold, or None for None. Raises ConvertError, which says what it is."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _LARGEST:
        raise ConvertError(f"{what} is no sensible number")
    return value


def number(what: str, value: Any) -> float | None:
    """A finite number as F32 can hold it, or None for None. Raises ConvertError, which says what it is."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= _LARGEST_FLOAT:  # nor NaN
        raise ConvertError(f"{what} is no sensible number")
    return float(value)
