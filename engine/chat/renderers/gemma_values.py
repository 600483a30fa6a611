"""Gemma's way to write values: texts between two marks, keys bare and sorted."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from engine.chat.renderers.jsontext import number
from engine.chat.renderers.values import scalar_text
from modelfile.gotemplate import Tool

_INT64 = 2**63


@dataclass(frozen=True, slots=True)
class GemmaValues:
    """`mark` stands before and behind a text; `null` is what nothing is called."""

    mark: str
    null: str
    key: Callable[[str], str] = str

    def text(self, text: str) -> str:
        """A text between its marks."""
        return f"{self.mark}{text}{self.mark}"

    def texts(self, texts: Iterable[str]) -> str:
        """A list of texts."""
        return f"[{','.join(map(self.text, texts))}]"

    def value(self, value: Any) -> str:
        """Any JSON."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, dict):
            return "{" + self.members(value) + "}"
        if isinstance(value, list | tuple):
            return f"[{','.join(map(self.value, value))}]"
        return self.null if value is None else _scalar(value)

    def members(self, value: dict[str, Any]) -> str:
        """What stands between the braces of an object."""
        return ",".join(f"{self.key(name)}:{self.value(value[name])}" for name in sorted(value))

    def tool(self, tool: Tool, properties: str) -> str:
        """A function and the schema of its arguments, of which `properties` is the text of those that it declares."""
        said = {"properties": properties} if tool.properties else {}
        if tool.required:
            said["required"] = self.texts(tool.required)
        if tool.parameters_type:
            said["type"] = self.text(tool.parameters_type.upper())
        schema = ",".join(f"{name}:{text}" for name, text in said.items())
        declares = tool.properties is not None or tool.parameters_type
        parameters = f",parameters:{{{schema}}}" if declares else ""
        return f"{{description:{self.text(tool.description)}{parameters}}}"


def _scalar(value: Any) -> str:
    """A bool or a number; integers plainly, as far as 64 bits go."""
    if not isinstance(value, bool):
        double = number(value)
        if -_INT64 <= double < _INT64 and double.is_integer():
            return str(int(double))
    return scalar_text(value)
