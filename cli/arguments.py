"""How many arguments a verb takes, in the words that users of Ollama know; and values that options may have."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any, Literal

from cli.errors import CommandError

Think = bool | str
Format = Literal["json"] | dict[str, Any] | None
STANDING_ALONE = ("--think", "--truncate")
LEVELS = ("low", "medium", "high", "max")


def exactly(count: int, given: list[str]) -> list[str]:
    """The arguments, which must be this many. Raises CommandError."""
    if len(given) != count:
        raise CommandError(f"accepts {count} arg(s), received {len(given)}")
    return given


def at_least(count: int, given: list[str]) -> list[str]:
    """The arguments, which must be at least this many. Raises CommandError."""
    if len(given) < count:
        raise CommandError(f"requires at least {count} arg(s), only received {len(given)}")
    return given


def at_most(count: int, given: list[str]) -> list[str]:
    """The arguments, which must not be more than this. Raises CommandError."""
    if len(given) > count:
        raise CommandError(f"accepts at most {count} arg(s), received {len(given)}")
    return given


def with_values(argv: list[str]) -> list[str]:
    """The command line with `--think` written out as `--think=true`: it may stand alone, the next word is no value.

    So may `--truncate`.
    """
    ends = argv.index("--") if "--" in argv else len(argv)
    return [f"{word}=true" if word in STANDING_ALONE else word for word in argv[:ends]] + argv[ends:]


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
