"""Slash commands of the interactive session."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from cli import show
from cli.arguments import CommandError, parse_format, parse_think
from cli.client import Client
from cli.input import History
from cli.session import Session
from modelfile.literals import add_parameter
from modelfile.parameters import PARAMETERS, OptionError

HELP = """\
/set        change how answers are made and shown; /set ? lists what can be set
/show       look at the model: /show info, license, modelfile, parameters, system, template
/load NAME  talk to another model
/clear      forget what was said
/bye        leave (so does Ctrl-D)
/?          this list

A message of many lines begins and ends with three quotation marks (\"\"\").
Ctrl-C ends an answer that is being written.
"""


class Leave(Exception):
    """The user wants to leave the session."""


class Commands:
    """Runs slash commands; prints to standard output."""

    def __init__(self, client: Client, session: Session, history: History) -> None:
        self._client = client
        self._session = session
        self._history = history

    def run(self, line: str) -> None:
        """Run one command. Raises CommandError, Leave, or what the client raises."""
        verb, _, rest = line.partition(" ")
        argument = rest.strip()
        match verb:
            case "/set":
                change_setting(self._session, self._history, argument)
            case "/show":
                self._show(argument)
            case "/load":
                self._load(argument)
            case "/clear":
                self._session.forget()
                print("The conversation starts anew.")
            case "/?" | "/help":
                print(SET_HELP if argument.lstrip("/") == "set" else HELP)
            case "/bye" | "/exit":
                raise Leave
            case _:
                raise CommandError(f"unknown command '{verb}', /? lists them")

    def _show(self, part: str) -> None:
        if part == "info":
            show.print_overview(self._client, self._session.model)
        elif part in show.PARTS:
            show.print_part(self._client, self._session.model, part)
            print()
        else:
            raise CommandError(f"/show needs one of: info, {', '.join(show.PARTS)}")

    def _load(self, name: str) -> None:
        if not name:
            raise CommandError("/load needs the name of a model")
        self._client.load(name, self._session.keep_alive)
        self._session.adapt_to(self._client.describe(name).texts("capabilities"))
        self._session.model = name
        self._session.forget()


SET_HELP = """\
/set parameter NAME VALUE...  an option, such as temperature or num_ctx
/set system TEXT              the system prompt
/set format json|SCHEMA       constrain answers; /set noformat lifts it
/set think [LEVEL]            have the model think; /set nothink
/set verbose                  tell what each answer cost; /set quiet
/set wordwrap                 break lines between words; /set nowordwrap
/set history                  keep what is typed; /set nohistory
"""


def change_setting(session: Session, history: History, text: str) -> None:
    """Apply the text after /set. Raises CommandError."""
    name, _, rest = text.partition(" ")
    value = rest.strip()
    match name:
        case "" | "?":
            print(SET_HELP)
            return
        case "parameter":
            _set_parameter(session, value)
        case "system":
            session.system = value
        case "format":
            session.output_format = parse_format(value or "json")
        case "noformat":
            session.output_format = None
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
    parameters: dict[str, Any] = {}
    try:
        for word in words:
            add_parameter(parameters, name, word)
    except OptionError as error:
        raise CommandError(str(error)) from None
    session.options |= parameters
