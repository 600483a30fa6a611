"""Prints commands as a Modelfile that `modelfile.parser` reads back.

The language has no escapes. Values in which a line ends with three quotes and values with control characters cannot be
read back; they are printed verbatim.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from modelfile.parser import Command, Keyword


def print_modelfile(commands: Iterable[Command]) -> str:
    """The text of a Modelfile."""
    return "".join(_print(command) + "\n" for command in commands)


def parameter_commands(parameters: Mapping[str, Any]) -> list[Command]:
    """PARAMETER commands for stored parameters, sorted by name; one command per element of a list."""
    return [
        Command(Keyword.PARAMETER, _text(element), name)
        for name, value in sorted(parameters.items())
        for element in (value if isinstance(value, list) else [value])
    ]


def _print(command: Command) -> str:
    words = [command.keyword.value, command.name] if command.name else [command.keyword.value]
    return " ".join([*words, _quoted(command.value)])


def _quoted(value: str) -> str:
    """The value, in quotes only if the parser would read it differently without."""
    if not value.startswith('"') and value == value.strip() and "\n" not in value and "\r" not in value:
        return value
    return f'"""{value}"""' if '"' in value else f'"{value}"'


def _text(value: Any) -> str:
    if value is None:
        return "<nil>"
    if isinstance(value, str):
        return value
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
