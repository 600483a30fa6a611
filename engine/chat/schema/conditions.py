"""A JSON schema's conditions as choices between schemas: what holds if a property is there, or has a value."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_MOST_DEPENDENCIES = 4  # each doubles the alternatives
_MOST_COMPARED = 3  # properties in one `if`

Choice = list[Any]
"""Schemas of which a value must match at least one."""


def conditions(schema: Mapping[str, Any]) -> tuple[list[Choice], list[str]]:
    """The choices that stand for a schema's conditional keywords, and the keywords that no choice can stand for."""
    choices: list[Choice] = []
    left_out: list[str] = []
    for key in ("dependentRequired", "dependentSchemas", "dependencies"):
        entries = schema.get(key)
        if not isinstance(entries, Mapping) or not entries:
            continue
        if len(entries) > _MOST_DEPENDENCIES:
            left_out.append(key)
        else:
            choices += [_dependency(name, needed) for name, needed in entries.items()]
    if "if" in schema and ("then" in schema or "else" in schema):
        choice = _conditional(schema["if"], schema.get("then", True), schema.get("else", True))
        if choice is None:
            left_out += [key for key in ("if", "then", "else") if key in schema]
        else:
            choices.append(choice)
    return choices, left_out


def _dependency(name: str, needed: Any) -> Choice:
    """Without the property; or with what it needs, be it there or not."""
    if isinstance(needed, list):
        there: Any = {"properties": dict.fromkeys((name, *map(str, needed)), True), "required": needed}
    else:
        there = {"allOf": [{"properties": {name: True}}, needed]}
    return [{"properties": {name: False}}, there]


def _conditional(condition: Any, then: Any, otherwise: Any) -> Choice | None:
    """What `if`, `then` and `else` allow; None for an `if` that does more than compare properties with values."""
    if isinstance(condition, bool) or condition == {}:
        return [otherwise if condition is False else then]
    if not isinstance(condition, Mapping) or set(condition) - {"properties", "required", "type"}:
        return None
    compared, required = condition.get("properties"), condition.get("required", [])
    if (
        not isinstance(compared, Mapping)
        or not isinstance(required, list)
        or condition.get("type") not in (None, "object")
    ):
        return None
    if not 0 < len(compared) <= _MOST_COMPARED or set(map(str, required)) - set(compared):
        return None
    if not all(
        isinstance(value, Mapping) and set(value) <= {"const", "enum", "type"} and _lists(value)
        for value in compared.values()
    ):
        return None
    choice: Choice = [{"allOf": [{"properties": compared, "required": [*compared]}, then]}]
    for name, value in compared.items():
        differs = {"properties": {name: {"not": {key: value[key] for key in ("const", "enum") if key in value}}}}
        if name not in required:
            choice.append({"allOf": [{"properties": {name: False}}, then]})
            differs["required"] = [name]  # type: ignore[assignment]
        choice.append({"allOf": [differs, otherwise]})
    return choice


def _lists(value: Mapping[str, Any]) -> bool:
    """Whether a schema lists its values in one way."""
    return ("const" in value) is not ("enum" in value)
