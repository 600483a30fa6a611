"""The verb run: one answer, or a conversation where there is somebody to talk to."""

from __future__ import annotations

import shutil
import sys

from cli.answer import Answer, timings
from cli.client import MISSING, Client, Description, ResponseError, connect
from cli.embed import Wishes, print_vectors
from cli.history import FILE, History
from cli.lines import Lines
from cli.pull import fetch
from cli.repl import Repl
from cli.session import Session
from cli.spinner import spinning
from server.settings import Settings


def run(session: Session, words: list[str], wishes: Wishes, *, insecure: bool) -> None:
    """Answer the words and what is piped in; without either, talk. `wishes` are for a model that only embeds."""
    settings = Settings.from_env()
    with connect(settings) as client:
        described = _find(client, session.model, insecure=insecure)
        capabilities = described.capabilities or ()
        if "embedding" in capabilities and "completion" not in capabilities:
            prompt = _prompt(words)
            print_vectors(client, session.model, [prompt] if prompt else [], wishes)
            return
        if session.think is None and "thinking" in capabilities:
            session.think = True
        if words or not (sys.stdin.isatty() and sys.stdout.isatty()):
            _answer(client, session, _prompt(words))
        else:
            session.load(client)
            Repl(client, session, Lines(History(FILE, kept=not settings.no_history))).run()


def terminal_width() -> int:
    """Cells in a line of the terminal; 0 where the output is none."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else 0


def _find(client: Client, model: str, *, insecure: bool) -> Description:
    try:
        return client.describe(model)
    except ResponseError as error:
        if error.status_code != MISSING:
            raise
    fetch(client, model, insecure=insecure)
    return client.describe(model)


def _prompt(words: list[str]) -> str:
    """What is piped in, then what was given."""
    piped = "" if sys.stdin.isatty() else sys.stdin.read()
    return " ".join([piped, *words] if piped else words)


def _answer(client: Client, session: Session, prompt: str) -> None:
    if not prompt:
        session.load(client)
        return
    answer = Answer(sys.stdout, session.look)
    answer.follow(spinning(session.generate(client, prompt)))
    print("\n")
    if session.verbose and answer.final is not None:
        print(timings(answer.final), end="", file=sys.stderr)
