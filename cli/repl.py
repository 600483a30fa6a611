"""The interactive session: read a message, print the answer, repeat."""

from __future__ import annotations

import sys

from cli.answer import AnswerPrinter, timings
from cli.arguments import CommandError
from cli.client import Client
from cli.commands import Commands, Leave
from cli.input import LineReader
from cli.progress import spinning
from cli.session import Session

_GREETING = "Write a message; /? for help, /bye or Ctrl-D to leave."


class Repl:
    """Runs until the user leaves. A failure or Ctrl-C ends an answer, not the session."""

    def __init__(self, client: Client, session: Session, lines: LineReader) -> None:
        self._client = client
        self._session = session
        self._lines = lines
        self._commands = Commands(client, session, lines.history)

    def run(self) -> None:
        """Run the session."""
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
        answer = AnswerPrinter(sys.stdout, self._session.look)
        try:
            answer.follow(spinning(self._session.chat(self._client, text)))
        finally:
            self._session.remember(text, answer)
            print("\n")
        if self._session.verbose and answer.final is not None:
            print(timings(answer.final), file=sys.stderr)
