"""The tools of a request, as parsers look at them: which names exist, and which types their parameters have."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any


class Toolbox:
    """Names and parameter types of the declared tools. Empty (false) when the request has none. Immutable."""

    def __init__(self, tools: Iterable[Mapping[str, Any]] = ()) -> None:
        functions = [tool.get("function") or {} for tool in tools]
        self._parameters = {
            function["name"]: (function.get("parameters") or {}).get("properties") or {}
            for function in functions
            if function.get("name")
        }

    @property
    def names(self) -> tuple[str, ...]:
        """The names, in the order of the request."""
        return tuple(self._parameters)

    def __contains__(self, name: str) -> bool:
        return name in self._parameters

    def __bool__(self) -> bool:
        return bool(self._parameters)

    def aliased(self, names: Mapping[str, str]) -> Toolbox:
        """The same tools under other names: alias to declared name."""
        other = Toolbox()
        other._parameters = {alias: self._parameters[name] for alias, name in names.items()}
        return other

    def types(self, function: str, parameter: str) -> frozenset[str]:
        """The JSON types that a parameter may have; empty when it is not declared."""
        schema = self._parameters.get(function, {}).get(parameter)
        return frozenset(_types(schema)) if isinstance(schema, Mapping) else frozenset()


def _types(schema: Mapping[str, Any]) -> Iterable[str]:
    if options := schema.get("anyOf"):
        return [kind for option in options if isinstance(option, Mapping) for kind in _types(option)]
    kinds = schema.get("type") or ()
    return (kinds,) if isinstance(kinds, str) else kinds
