"""Schemas whose texts never hold what a format's reader would take for its own marks."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

_ANYTHING, _PLAIN = "anything", "plain"
_REFERENCE, _PLAIN_REFERENCE = ({"$ref": f"#/$defs/{name}"} for name in (_ANYTHING, _PLAIN))
_MAPS = ("properties", "patternProperties", "$defs", "definitions")
_COMBINING = ("anyOf", "allOf", "oneOf")
_VALUES = ("enum", "const", "$ref")
_TEXT = "string"
_ABOUT = {
    "object": ("properties", "required", "additionalProperties", "minProperties", "maxProperties"),
    "array": ("items", "prefixItems", "minItems", "maxItems"),
    _TEXT: ("minLength", "maxLength", "pattern", "format"),
    "number": ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
}


def guarded_schema(schema: dict[str, Any], reserved: Sequence[str]) -> dict[str, Any]:
    """The schema without values in which a text, or the name of a property that is not listed, has one of these."""
    if not reserved:
        return schema
    guard = _Guard(reserved)
    found = guard.schema(schema)
    written = json.dumps(found)
    needed = {name: value for name, value in guard.definitions().items() if f'"#/$defs/{name}"' in written}
    return {**found, "$defs": {**found.get("$defs", {}), **needed}}


def without(reserved: Sequence[str]) -> str:
    """A pattern of texts that have none of these, which begin with the same character and do not have it again."""
    (first,) = {text[0] for text in reserved}
    return f"[^{_code(first)}]*({_code(first)}{_rest(first, [text[1:] for text in reserved])})*"


def _rest(first: str, tails: Sequence[str]) -> str:
    """What may stand behind a beginning of reserved texts, up to the next `first`; these are the rests of them."""
    following = dict.fromkeys(tail[0] for tail in tails)
    others = "".join(map(_code, [first, *following]))
    ways = ["", f"[^{others}][^{_code(first)}]*"]
    for letter in following:
        behind = [tail[1:] for tail in tails if tail[0] == letter]
        if all(behind):
            ways.append(_code(letter) + _rest(first, behind))
    return f"({'|'.join(ways)})"


def _code(letter: str) -> str:
    return letter if letter.isascii() and letter.isalnum() else f"\\x{{{ord(letter):X}}}"


class _Guard:
    def __init__(self, reserved: Sequence[str]) -> None:
        self._reserved = reserved
        self._pattern = f"^{without(reserved)}$"

    def definitions(self) -> dict[str, Any]:
        """Any value, and what every text must be."""
        texts = {"type": _TEXT, "pattern": self._pattern}
        lists = {"type": "array", "items": _REFERENCE}
        objects = {"type": "object", **self._open(_REFERENCE)}
        anything = {"anyOf": [texts, {"type": ["number", "boolean", "null"]}, lists, objects]}
        return {_ANYTHING: anything, _PLAIN: {"pattern": self._pattern}}

    def schema(self, schema: Any, *, is_part: bool = False) -> Any:
        """A schema, guarded in all its depth; `is_part`: what it says nothing about is guarded elsewhere."""
        if not isinstance(schema, Mapping):
            return schema if schema is False else _REFERENCE
        kinds = _kinds(schema)
        found = {key: self._inside(key, value, typed=bool(kinds)) for key, value in schema.items()}
        if any(key in schema for key in _VALUES):
            return found
        if any(key in schema for key in _COMBINING):
            return self._plain(found) if _TEXT in kinds else found
        if is_part and "type" not in schema:
            return found
        return self._guarded({**found, "type": kinds}) if kinds else _REFERENCE

    def _guarded(self, schema: dict[str, Any]) -> dict[str, Any]:
        kinds = schema["type"]
        if "array" in kinds:
            schema.setdefault("items", _REFERENCE)
        if "object" in kinds and "patternProperties" not in schema:
            others = schema.get("additionalProperties", _REFERENCE)
            schema |= {"additionalProperties": False} if schema.get("properties") else self._open(others)
        return self._plain(schema) if _TEXT in kinds else schema

    def _plain(self, schema: dict[str, Any]) -> dict[str, Any]:
        return {**schema, "allOf": [*schema.get("allOf", ()), _PLAIN_REFERENCE]}

    def _open(self, values: Any) -> dict[str, Any]:
        """What makes objects take any properties that have such values."""
        others = {"patternProperties": {self._pattern: values}} if values is not False else {}
        return {**others, "additionalProperties": False}

    def _inside(self, key: str, value: Any, *, typed: bool) -> Any:
        """The value of a keyword, guarded; `typed`: its schema has said which kinds of values there are."""
        if key in _MAPS and isinstance(value, Mapping):
            return {name: self.schema(inner) for name, inner in value.items()}
        if key in (*_COMBINING, "prefixItems") and isinstance(value, list):
            return [self.schema(inner, is_part=typed and key in _COMBINING) for inner in value]
        if key == "enum" and isinstance(value, list):
            return [each for each in value if not self._is_reserved(each)] or value
        return self.schema(value) if key in ("items", "additionalProperties") else value

    def _is_reserved(self, value: Any) -> bool:
        text = json.dumps(value, ensure_ascii=False)
        return any(each in text for each in self._reserved)


def _kinds(schema: Mapping[str, Any]) -> list[Any]:
    """The types of a schema's values, in the end those that its other keywords are about."""
    kinds = schema.get("type")
    if kinds:
        return kinds if isinstance(kinds, list) else [kinds]
    return next(([kind] for kind, keywords in _ABOUT.items() if any(key in schema for key in keywords)), [])
