"""Tools of requests, and which of them the model may or must call."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import PrivateAttr, model_validator

from engine.api import NamedTool, Tool, ToolChoice
from modelfile.text import cut, quote
from server.anthropic.known_tools import CLIENT_TOOLS, WEB_SEARCH, KnownTool
from server.http.body import Body, validated
from server.ollama.fields import ToolBody

_OFFERED_ANYWAY = "tool_search_tool"  # finds tools whose definitions are deferred; here the model sees all of them


class ToolParam(Body):
    """A tool: the client's own, or one of those whose schemas Anthropic defines, by their `type`."""

    go: ClassVar[str] = "anthropic.Tool"

    type: str = ""
    name: str = ""
    description: str = ""
    input_schema: Any = None
    cache_control: dict[str, Any] | None = None
    _tool: Tool | None = PrivateAttr(default=None)

    @property
    def tool(self) -> Tool | None:
        """The tool for the engine; None for one that the model does not need."""
        return self._tool

    @property
    def runs_here(self) -> bool:
        """Whether the server is to run it, not the client."""
        return self.input_schema is None and self.type.startswith(WEB_SEARCH.prefix)

    @model_validator(mode="after")
    def _made(self) -> ToolParam:
        """Make the tool here, because large bodies are read off the event loop."""
        if not self.type.startswith(_OFFERED_ANYWAY):
            known = self._known()
            if not self.name:
                raise ValueError("tool missing required 'name' field")
            schema = self.input_schema if known is None else known.input_schema
            if schema is None:
                raise ValueError("tool missing required 'input_schema' field")
            self._tool = self._function(self.description or (known.description if known else ""), schema)
        return self

    def _known(self) -> KnownTool | None:
        """The definition for the tool's type, None for the client's own. Raises ValueError for an unknown type."""
        if self.input_schema is not None or self.type in ("", "custom"):
            return None
        for known in (*CLIENT_TOOLS, WEB_SEARCH):
            if self.type.startswith(known.prefix):
                return known
        raise ValueError(f"tool type {quote(cut(self.type))} is not supported")

    def _function(self, description: str, schema: Any) -> Tool:
        function = {"name": self.name, "description": description, "parameters": schema}
        try:
            return validated({"type": "function", "function": function}, ToolBody).tool
        except ValueError as error:
            raise ValueError(f"invalid input_schema for tool {quote(cut(self.name))}: {error}") from None


class ToolChoiceBody(Body):
    """Which tools may or must be called."""

    go: ClassVar[str] = "anthropic.ToolChoice"

    type: str = ""
    name: str = ""
    disable_parallel_tool_use: bool = False

    @property
    def choice(self) -> ToolChoice:
        """The choice for the engine."""
        return NamedTool(self.name) if self.type == "tool" else _CHOICES[self.type]

    @model_validator(mode="after")
    def _known(self) -> ToolChoiceBody:
        if self.type != "tool" and self.type not in _CHOICES:
            allowed = '"auto", "any", "tool" or "none"'
            raise ValueError(f"invalid tool_choice.type: {quote(cut(self.type))} (must be {allowed})")
        if self.type == "tool" and not self.name:
            raise ValueError("tool_choice.name is required")
        return self


_CHOICES: Mapping[str, ToolChoice] = {"": "auto", "auto": "auto", "any": "required", "none": "none"}
