"""The tools of a request as readers need them: their names, and the types of their parameters."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from engine.chat.schema.variants import variants
from modelfile.conversation import Json, Tool


class ToolSet:
    """Names and parameter types of the declared tools. False if the request has none. Immutable."""

    def __init__(self, tools: Iterable[Tool] = ()) -> None:
        self._schemas: dict[str, Json] = {tool.name: tool.sent for tool in tools if tool.name}

    @property
    def names(self) -> tuple[str, ...]:
        """The names, in the order of the request."""
        return tuple(self._schemas)

    def __contains__(self, name: str) -> bool:
        return name in self._schemas

    def __bool__(self) -> bool:
        return bool(self._schemas)

    def aliased(self, names: Mapping[str, str]) -> ToolSet:
        """The same tools under other names; `names` maps an alias to a declared name."""
        other = ToolSet()
        other._schemas = {alias: self._schemas[name] for alias, name in names.items()}
        return other

    def types(self, function: str, parameter: str) -> frozenset[str]:
        """The JSON types that a parameter may have; empty if it is not declared."""
        schema = self._schemas.get(function, {})
        properties = schema.get("properties")
        if not isinstance(properties, Mapping):
            return frozenset()
        return frozenset(branch.kind for branch in variants(properties.get(parameter), schema) if branch.kind)
