"""The command /set of the interactive session: how answers are made and shown."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from cli.arguments import parse_format, parse_think
from cli.errors import CommandError
from cli.history import History
from cli.session import Session
from modelfile.literals import add_parameter
from modelfile.parameters import PARAMETERS, OptionError

HELP = """\
/set parameter NAME VALUE...  an option, such as temperature or num_ctx
/set system TEXT              the system prompt
/set format json|SCHEMA       constrain answers; /set noformat lifts it
/set think [LEVEL]            have the model think; /set nothink
/set verbose                  tell what each answer cost; /set quiet
/set wordwrap                 break lines between words; /set nowordwrap
/set history                  keep what is typed; /set nohistory
"""


def change(session: Session, history: History, text: str) -> None:
    """Carry out what stands after /set. Raises CommandError."""
    name, _, rest = text.partition(" ")
    value = rest.strip()
    match name:
        case "" | "?":
            print(HELP)
            return
        case "parameter":
            _set_parameter(session, value)
        case "system":
            session.system = value
        case "format":
            session.format = parse_format(value or "json")
        case "noformat":
            session.format = None
        case "think":
            session.think = parse_think(value or "true")
        case "nothink":
            session.think = False
        case "verbose" | "quiet":
            session.verbose = name == "verbose"
        case "wordwrap" | "nowordwrap":
            session.look = replace(session.look, wrap=name == "wordwrap")
        case "history" | "nohistory":
            history.kept = name == "history"
        case _:
            raise CommandError(f"unknown setting '{name}', /set ? lists them")
    print(f"Set {text}")


def _set_parameter(session: Session, text: str) -> None:
    name, _, value = text.partition(" ")
    if not value.strip():
        raise CommandError("/set parameter needs a name and a value")
    row = PARAMETERS.get(name)
    words = value.split() if row is not None and row.type == "array" else [value.strip()]
    found: dict[str, Any] = {}
    try:
        for word in words:
            add_parameter(found, name, word)
    except OptionError as error:
        raise CommandError(str(error)) from None
    session.options |= found
