"""A JSON object that the server has sent. What has another type than Ollama's API says is told as foreign."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any, TypeVar

T = TypeVar("T")


class Foreign(Exception):
    """What answers is no Ollama server."""


class Reply:
    """Reads the fields of one object. A field that is missing or null has the default; raises Foreign for others."""

    def __init__(self, fields: dict[str, Any]) -> None:
        self.fields = fields

    @classmethod
    def parse(cls, data: bytes | str) -> Reply:
        """The object in a text. Raises Foreign."""
        try:
            fields = json.loads(data)
        except (ValueError, RecursionError):
            raise Foreign from None
        if not isinstance(fields, dict):
            raise Foreign
        return cls(fields)

    def require(self, name: str) -> Reply:
        """This object. Raises Foreign unless it has the field."""
        if name not in self.fields:
            raise Foreign
        return self

    def text(self, name: str) -> str:
        """A text, by default empty."""
        return self._field(name, str, "")

    def number(self, name: str) -> int:
        """A whole number, by default 0."""
        return self._field(name, int, 0)

    def flag(self, name: str) -> bool:
        """A truth value, by default false."""
        return self._field(name, bool, False)

    def time(self, name: str) -> datetime | None:
        """A point in time."""
        text = self.text(name)
        try:
            when = datetime.fromisoformat(text) if text else None
        except ValueError:
            raise Foreign from None
        return when if when is None or when.tzinfo else when.replace(tzinfo=UTC)

    def object(self, name: str) -> Reply:
        """An object, by default empty."""
        return Reply(self._field(name, dict, {}))

    def objects(self, name: str) -> list[Reply]:
        """A list of objects, by default empty."""
        return [Reply(_typed(item, dict)) for item in self._field(name, list, [])]

    def texts(self, name: str) -> list[str]:
        """A list of texts, by default empty."""
        return [_typed(item, str) for item in self._field(name, list, [])]

    def _field(self, name: str, kind: type[T], default: T) -> T:
        value = self.fields.get(name)
        return default if value is None else _typed(value, kind)


def _typed(value: Any, kind: type[T]) -> T:
    if not isinstance(value, kind):
        raise Foreign
    return value
