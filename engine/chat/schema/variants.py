"""The kinds of values that a JSON schema allows, for parsing arguments: cheaper and more lenient than `reader`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from engine.chat.schema.references import SchemaReferences

DEFINITIONS = ("$defs", "definitions")
_CHOICES = ("anyOf", "oneOf")
_DEEPEST = 20  # nested references and choices
_MOST = 500  # schemas read for one


@dataclass(frozen=True, slots=True)
class SchemaVariant:
    """Values of one kind (a JSON type, "" for any) and the schema of them; `values` if the schema lists them.

    Listed integers are of kind "integer", not "number".
    """

    kind: str
    schema: Mapping[str, Any]
    values: tuple[Any, ...] = ()


def variants(schema: Any, root: Mapping[str, Any]) -> list[SchemaVariant]:
    """The kinds of values that a schema allows, at least one; references are resolved in `root`."""
    return list(_Reading(root).variants(schema, _DEEPEST))


class _Reading:
    """Reads one schema. Behind _MOST parts everything counts as any value: a few lines can expand to millions."""

    def __init__(self, root: Mapping[str, Any]) -> None:
        self._references = SchemaReferences(root)
        self._left = _MOST

    def variants(self, schema: Any, depth: int) -> Iterator[SchemaVariant]:
        """The kinds of values; `depth` more levels of references and choices are followed."""
        if not isinstance(schema, Mapping) or not depth:
            yield SchemaVariant("", {})
            return
        flat = self._flat(schema, depth)
        choice = next((key for key in _CHOICES if isinstance(flat.get(key), list) and flat[key]), None)
        if choice is None:
            yield from _simple(flat)
            return
        rest = {key: value for key, value in flat.items() if key != choice}
        for option in flat[choice]:
            if isinstance(option, Mapping):
                yield from self.variants(_joined([rest, option]), depth - 1)

    def _flat(self, schema: Mapping[str, Any], depth: int) -> dict[str, Any]:
        """The schema with its references and `allOf` merged in."""
        rest = {key: value for key, value in schema.items() if key not in ("$ref", "allOf")}
        self._left -= 1
        if not depth or self._left < 0:
            return rest
        target = self._references.target(schema.get("$ref"))
        parts = [target] if isinstance(target, Mapping) else []
        together = schema.get("allOf")
        parts += [part for part in together if isinstance(part, Mapping)] if isinstance(together, list) else []
        return _joined([*(self._flat(part, depth - 1) for part in parts), rest])


def _simple(schema: Mapping[str, Any]) -> Iterator[SchemaVariant]:
    """The kinds of a schema without references and choices of schemas."""
    values = _listed(schema)
    for kind in dict.fromkeys(map(_kind, values)):
        yield SchemaVariant(kind, schema, tuple(value for value in values if _kind(value) == kind))
    if not values:
        for kind in _kinds(schema):
            yield SchemaVariant(kind, {**schema, "type": kind} if kind else schema)


def _joined(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Several schemas merged; where they disagree, the last one counts."""
    merged: dict[str, Any] = {}
    for part in parts:
        before = dict(merged)
        merged |= part
        if _both(before, part, "properties", Mapping):
            merged["properties"] = {**before["properties"], **part["properties"]}
        if _both(before, part, "required", list):
            merged["required"] = [*before["required"], *part["required"]]
    return merged


def _both(one: Mapping[str, Any], other: Mapping[str, Any], key: str, kind: type) -> bool:
    return isinstance(one.get(key), kind) and isinstance(other.get(key), kind)


def _listed(schema: Mapping[str, Any]) -> list[Any]:
    if "const" in schema:
        return [schema["const"]]
    values = schema.get("enum")
    return values if isinstance(values, list) else []


def _kinds(schema: Mapping[str, Any]) -> list[str]:
    kinds = schema.get("type")
    if isinstance(kinds, str) and kinds:
        return [kinds]
    if isinstance(kinds, list) and kinds:
        return [kind for kind in kinds if isinstance(kind, str)]
    if "properties" in schema:
        return ["object"]
    return ["array"] if "items" in schema or "prefixItems" in schema else [""]


def _kind(value: Any) -> str:
    match value:
        case bool():
            return "boolean"
        case int():
            return "integer"
        case float():
            return "number"
        case str():
            return "string"
        case None:
            return "null"
        case list():
            return "array"
    return "object"
