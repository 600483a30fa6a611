"""The commands of the interactive session: lines that begin with a slash."""

from __future__ import annotations

from cli import set_command, show
from cli.client import Client
from cli.errors import CommandError
from cli.history import History
from cli.session import Session

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
    """Carries out what the user asks of the session itself; what it shows goes to standard output."""

    def __init__(self, client: Client, session: Session, history: History) -> None:
        self._client = client
        self._session = session
        self._history = history

    def run(self, line: str) -> None:
        """Carry a command out. Raises CommandError, Leave, or what the client raises."""
        verb, _, rest = line.partition(" ")
        argument = rest.strip()
        match verb:
            case "/set":
                set_command.change(self._session, self._history, argument)
            case "/show":
                self._show(argument)
            case "/load":
                self._load(argument)
            case "/clear":
                self._session.forget()
                print("The conversation starts anew.")
            case "/?" | "/help":
                print(set_command.HELP if argument.lstrip("/") == "set" else HELP)
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
        self._client.generate(name, keep_alive=self._session.keep_alive)
        self._session.model = name
        self._session.forget()
