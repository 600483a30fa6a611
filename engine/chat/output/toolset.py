"""The tools of a request, as parsers look at them: which names exist, and which types their parameters have."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from engine.chat.schema.variants import variants


class ToolSet:
    """Names and parameter types of the declared tools. Empty (false) when the request has none. Immutable.

    `schemas` are parameters by name, which win over those in the definitions.
    """

    def __init__(self, tools: Iterable[Mapping[str, Any]] = (), schemas: Mapping[str, Any] | None = None) -> None:
        functions = [tool.get("function") or {} for tool in tools]
        sent = schemas or {}
        self._schemas: dict[str, Any] = {
            name: sent.get(name) or function.get("parameters") or {}
            for function in functions
            if (name := function.get("name"))
        }

    @property
    def names(self) -> tuple[str, ...]:
        """The names, in the order of the request."""
        return tuple(self._schemas)

    def __contains__(self, name: str) -> bool:
        return name in self._schemas

    def __bool__(self) -> bool:
        return bool(self._schemas)

    def aliased(self, names: Mapping[str, str]) -> ToolSet:
        """The same tools under other names: alias to declared name."""
        other = ToolSet()
        other._schemas = {alias: self._schemas[name] for alias, name in names.items()}
        return other

    def types(self, function: str, parameter: str) -> frozenset[str]:
        """The JSON types that a parameter may have; empty when it is not declared."""
        schema = self._schemas.get(function)
        properties = schema.get("properties") if isinstance(schema, Mapping) else None
        if not isinstance(schema, Mapping) or not isinstance(properties, Mapping):
            return frozenset()
        return frozenset(branch.kind for branch in variants(properties.get(parameter), schema) if branch.kind)
