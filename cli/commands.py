"""Slash commands of the interactive session."""

from __future__ import annotations

import shutil
import textwrap
from dataclasses import replace
from typing import Any

from cli import models, show
from cli.arguments import CommandError, parse_format, parse_think
from cli.client import Client
from cli.input import History
from cli.session import Session
from modelfile.literals import add_parameter
from modelfile.parameters import PARAMETERS, OptionError

HELP = """\
/set         change how answers are made and shown; /? set lists what can be set
/show        look at the model; /? show lists its parts
/load NAME   talk to another model, or to a conversation that was saved
/save NAME   keep the model with this conversation and these settings as a new model
/list        list the models
/clear       forget what was said
/bye         leave (so does Ctrl-D)
/? COMMAND   help for a command; /? shortcuts lists the keys

A message of many lines begins and ends with \"\"\", is pasted, or is written in an editor (Ctrl-G).
Ctrl-C ends an answer that is being written.
"""

SET_HELP = """\
/set parameter NAME VALUE...  an option, such as temperature or num_ctx; /set parameter ? lists them
/set system TEXT              the system prompt
/set format json|SCHEMA       constrain answers; /set noformat lifts it
/set think [LEVEL]            have the model think; /set nothink
/set verbose                  tell what each answer cost; /set quiet
/set wordwrap                 break lines between words; /set nowordwrap
/set history                  keep what is typed; /set nohistory
"""

SHOW_HELP = """\
/show info        what the model is, with what was set
/show license     its license
/show modelfile   its Modelfile
/show parameters  its parameters, and those that were set
/show system      the system prompt that is used
/show template    its template
"""

SHORTCUTS = """\
Enter              send the message
Alt-Enter          begin a new line
Tab                complete a command, the name of a model or a path
Up, Down           what was typed before; Ctrl-R searches it
Ctrl-A, Ctrl-E     to the beginning, to the end of the line
Alt-B, Alt-F       one word back, one word forward
Ctrl-K, Ctrl-U     delete what is after, before the cursor
Ctrl-W             delete the word before the cursor
Ctrl-G             write the message in an editor ($VISUAL, $EDITOR)
Ctrl-L             clear the screen
Ctrl-Z             suspend the session; the shell's fg resumes it
Ctrl-C             end the answer, or drop what is typed
Ctrl-D             leave
"""

COMMANDS = ("/set", "/show", "/load", "/save", "/list", "/clear", "/bye", "/?")
SETTINGS = (
    *("parameter", "system", "format", "noformat", "think", "nothink", "verbose", "quiet"),
    *("wordwrap", "nowordwrap", "history", "nohistory"),
)
TOPICS = {"set": SET_HELP, "show": SHOW_HELP, "shortcuts": SHORTCUTS}


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
            case "/save":
                self._save(argument)
            case "/list" | "/ls":
                models.print_models(self._client.models(), argument)
            case "/clear":
                self._session.forget()
                print("The conversation starts anew.")
            case "/?" | "/help":
                print(TOPICS.get(argument.lstrip("/"), HELP))
            case "/bye" | "/exit":
                raise Leave
            case _:
                raise CommandError(f"unknown command '{verb}', /? lists them")

    def _show(self, part: str) -> None:
        session = self._session
        if not part:
            print(SHOW_HELP)
        elif part == "info":
            show.print_overview(self._client, session.model, session=session)
        elif part in show.PARTS:
            show.print_part(self._client, session.model, part, session)
            print()
        else:
            raise CommandError(f"/show needs one of: info, {', '.join(show.PARTS)}")

    def _load(self, name: str) -> None:
        if not name:
            raise CommandError("/load needs the name of a model")
        self._session.load(self._client, name)
        described = self._client.describe(name)
        self._session.adapt_to(described.texts("capabilities"))
        self._session.model = name
        self._session.forget()
        print(f"Loaded {name}")
        show.print_messages(described, self._session.look)

    def _save(self, name: str) -> None:
        if not name:
            raise CommandError("/save needs a name for the new model")
        session = self._session
        own = [message.fields for message in self._client.describe(session.model).objects("messages")]
        said = [{"role": message["role"], "content": message["content"]} for message in session.messages]
        request = {
            "model": name,
            "from": session.model,
            "system": session.system,
            "parameters": session.options,
            "messages": [*own, *said] if said else [],
        }
        for _ in self._client.make({key: value for key, value in request.items() if value}):
            pass
        print(f"Saved as {name}; pronk run {name} goes on from here")
        if any("images" in message for message in session.messages):
            print("Pictures and sounds are not kept.")


def change_setting(session: Session, history: History, text: str) -> None:
    """Apply the text after /set. Raises CommandError."""
    name, _, rest = text.partition(" ")
    value = rest.strip()
    match name:
        case "" | "?":
            print(SET_HELP)
            return
        case "parameter" if value == "?":
            print(_parameters())
            return
        case "parameter":
            _set_parameter(session, value)
        case "system" if not value:
            print("/set system TEXT              the system prompt\n")
            return
        case "system":
            session.system = value
        case "format":
            session.output_format = parse_format(value or "json")
        case "noformat":
            session.output_format = None
        case "think" | "nothink":
            session.think = parse_think(value or "true") if name == "think" else False
            session.think_is_chosen = True
        case "verbose" | "quiet":
            session.verbose = name == "verbose"
        case "wordwrap" | "nowordwrap":
            session.look = replace(session.look, wrap=name == "wordwrap")
        case "history" | "nohistory":
            history.kept = name == "history"
        case _:
            raise CommandError(f"unknown setting '{name}', /set ? lists them")
    print(f"Set {text}")


def _parameters() -> str:
    """The options that can be set, and what they are, in lines that fit the terminal."""
    column = max(map(len, PARAMETERS)) + 2
    width = max(shutil.get_terminal_size().columns - 1, 2 * column)
    rows = ((name.ljust(column), row.doc.replace("`", "")) for name, row in PARAMETERS.items())
    told = (textwrap.fill(doc, width, initial_indent=name, subsequent_indent=" " * column) for name, doc in rows)
    return "/set parameter NAME VALUE..., where NAME is one of\n" + "\n".join(told) + "\n"


def _set_parameter(session: Session, text: str) -> None:
    name, _, value = text.partition(" ")
    if not value.strip():
        raise CommandError("/set parameter needs a name and a value; /set parameter ? lists them")
    row = PARAMETERS.get(name)
    words = value.split() if row is not None and row.type == "array" else [value.strip()]
    parameters: dict[str, Any] = {}
    try:
        for word in words:
            add_parameter(parameters, name, word)
    except OptionError as error:
        raise CommandError(str(error)) from None
    session.options |= parameters
