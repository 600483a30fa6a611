"""Checks of command line arguments and option values, with the error texts of Ollama's command."""

from __future__ import annotations

import json
import re
from collections.abc import Container, Sequence
from contextlib import suppress
from typing import Any, Literal

from server.env import FALSE, TRUE


class CommandError(Exception):
    """A command failed; `str()` is printed after `Error: `, and the exit code is 1."""


Think = bool | str
Format = Literal["json"] | dict[str, Any] | None
STANDING_ALONE = ("--think", "--truncate")
LEVELS = ("low", "medium", "high", "max")
_SURROGATE = re.compile("[\ud800-\udfff]")


def as_utf8(text: str) -> str:
    """The text with U+FFFD for each byte that is not UTF-8 (Python's surrogate escapes), as Go's JSON has it."""
    return _SURROGATE.sub("\ufffd", text)


def require_name(model: str, message: str = "model is required") -> None:
    """Raises CommandError for an empty name: the client has no such request, so no server would say it."""
    if not model:
        raise CommandError(message)


def exactly(count: int, arguments: Sequence[str]) -> list[str]:
    """Return the arguments. Raises CommandError unless there are exactly `count`."""
    if len(arguments) != count:
        raise CommandError(f"accepts {count} arg(s), received {len(arguments)}")
    return list(arguments)


def at_least(count: int, arguments: Sequence[str]) -> list[str]:
    """Return the arguments. Raises CommandError if there are fewer than `count`."""
    if len(arguments) < count:
        raise CommandError(f"requires at least {count} arg(s), only received {len(arguments)}")
    return list(arguments)


def at_most(count: int, arguments: Sequence[str]) -> list[str]:
    """Return the arguments. Raises CommandError if there are more than `count`."""
    if len(arguments) > count:
        raise CommandError(f"accepts at most {count} arg(s), received {len(arguments)}")
    return list(arguments)


def with_values(argv: list[str]) -> list[str]:
    """The command line with `--think` and `--truncate` as `--think=true`: the word after them is not their value."""
    ends = argv.index("--") if "--" in argv else len(argv)
    return [f"{word}=true" if word in STANDING_ALONE else word for word in argv[:ends]] + argv[ends:]


def without_values(argv: list[str], flags: Container[str]) -> list[str]:
    """The arguments of a verb with `--flag` for `--flag=true`, and without what `--flag=false` takes back.

    `flags` are the names of those that take no value. Raises CommandError for a value that is neither.
    """
    ends = argv.index("--") if "--" in argv else len(argv)
    words: list[str] = []
    for word in argv[:ends]:
        name, equals, value = word.partition("=")
        if not equals or name not in flags:
            words.append(word)
        elif value in TRUE:
            words.append(name)
        elif value in FALSE:
            words = [word for word in words if word != name]
        else:
            raise CommandError(f'invalid argument "{value}" for "{name}" flag: must be true or false')
    return words + argv[ends:]


def parse_truncate(text: str) -> bool:
    """The value of `--truncate`. Raises CommandError."""
    if text in ("true", "false"):
        return text == "true"
    raise CommandError(f'invalid value for --truncate: "{text}" (must be true, false)')


def parse_think(text: str) -> Think:
    """The value of `--think`. Raises CommandError."""
    if text in ("true", "false"):
        return text == "true"
    if text in LEVELS:
        return text
    raise CommandError(f'invalid value for --think: "{text}" (must be true, false, {", ".join(LEVELS)})')


def parse_format(text: str) -> Format:
    """The value of `--format`: `json`, a JSON schema, or empty for none. Raises CommandError."""
    if not text:
        return None
    if text == "json":
        return "json"
    with suppress(json.JSONDecodeError):
        schema = json.loads(text)
        if isinstance(schema, dict):
            return schema
    raise CommandError("--format must be json or a JSON schema")
