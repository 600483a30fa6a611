"""From commands to the text of a Modelfile: what `modelfile.parser` reads back as the same commands.

The language has no escapes, so a few values have no form that reads back: those in which a line ends with three
quotes, and those with control characters. They are printed as they stand.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from modelfile.parser import Command, Keyword


def print_modelfile(commands: Iterable[Command]) -> str:
    """The text of a Modelfile, a line or more for each command."""
    return "".join(_print(command) + "\n" for command in commands)


def parameter_commands(parameters: Mapping[str, Any]) -> list[Command]:
    """PARAMETER commands for stored parameters: names in order, one command for each element of a list."""
    return [
        Command(Keyword.PARAMETER, _text(element), name)
        for name, value in sorted(parameters.items())
        for element in (value if isinstance(value, list) else [value])
    ]


def _print(command: Command) -> str:
    words = [command.keyword.value, command.name] if command.name else [command.keyword.value]
    return " ".join([*words, _quoted(command.value)])


def _quoted(value: str) -> str:
    """Quotes only where the parser would take something off or read something else."""
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
