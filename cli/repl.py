"""The interactive session of `pronk run`."""

from __future__ import annotations

import sys

from cli.answer import AnswerPrinter, timings, truncation
from cli.arguments import CommandError
from cli.client import Client
from cli.commands import Commands, Leave
from cli.completion import Words
from cli.editor import LineEditor
from cli.input import History
from cli.progress import spinning
from cli.reply import Reply
from cli.session import Session
from cli.show import print_messages
from cli.text import brief


class Repl:
    """Read a message, print the answer, repeat. A failure or Ctrl-C ends only an answer."""

    def __init__(self, client: Client, session: Session, history: History, terminal: str) -> None:
        """`terminal` is its kind, from TERM."""
        self._client = client
        self._session = session
        self._commands = Commands(client, session, history)
        self._editor = LineEditor(history, Words(client), terminal=terminal)

    def run(self, described: Reply) -> None:
        """Show the messages that are part of the model, then run the session."""
        print_messages(described, self._session.look)
        while True:
            try:
                self._step(self._editor.read())
            except KeyboardInterrupt:
                print()
            except CommandError as error:
                print(f"Error: {brief(str(error))}", file=sys.stderr)
            except (EOFError, Leave):
                return

    def _step(self, text: str) -> None:
        with self._client.explained():
            if text.startswith("/") and not self._session.begins_with_file(text):
                self._commands.run(text)
            elif text.strip():
                self._turn(text)

    def _turn(self, text: str) -> None:
        message = self._session.message(text)
        answer = AnswerPrinter(sys.stdout, self._session.look)
        try:
            with self._editor.set_aside():
                answer.follow(spinning(self._session.chat(self._client, message)))
        finally:
            self._session.remember(message, answer)
            print("\n")
        if answer.final is not None:
            print(truncation(answer.final), end="", file=sys.stderr)
            if self._session.verbose:
                print(timings(answer.final), file=sys.stderr)
