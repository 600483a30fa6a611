"""The interactive session: read a message, show the answer, again."""

from __future__ import annotations

import sys

from cli.answer import Answer, timings
from cli.client import Client
from cli.commands import Commands, Leave
from cli.errors import CommandError
from cli.lines import Lines
from cli.session import Session
from cli.spinner import spinning

_GREETING = "Write a message; /? for help, /bye or Ctrl-D to leave."


class Repl:
    """Talks with the user until they leave. A failure or Ctrl-C ends an answer, not the session."""

    def __init__(self, client: Client, session: Session, lines: Lines) -> None:
        self._client = client
        self._session = session
        self._lines = lines
        self._commands = Commands(client, session, lines.history)

    def run(self) -> None:
        """The whole session."""
        print(_GREETING)
        while True:
            try:
                self._step(self._lines.read())
            except KeyboardInterrupt:
                print()
            except CommandError as error:
                print(f"Error: {error}", file=sys.stderr)
            except (EOFError, Leave):
                return

    def _step(self, text: str) -> None:
        with self._client.explained():
            if text.startswith("/"):
                self._commands.run(text)
            elif text.strip():
                self._turn(text)

    def _turn(self, text: str) -> None:
        answer = Answer(sys.stdout, self._session.look)
        try:
            answer.follow(spinning(self._session.chat(self._client, text)))
        finally:
            self._session.remember(text, answer)
            print("\n")
        if self._session.verbose and answer.final is not None:
            print(timings(answer.final), file=sys.stderr)
