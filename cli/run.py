"""`pronk run` (one answer, or a session on a terminal) and `pronk embed`."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from cli.answer import AnswerPrinter, timings, truncation
from cli.arguments import CommandError, require_name
from cli.attachments import Attachment, read
from cli.client import MISSING, Client, ResponseError, connect
from cli.input import FILE, History, is_stdin, read_piped
from cli.models import fetch
from cli.progress import spinning
from cli.reply import Reply
from cli.session import Session
from server.settings import Settings


def run(session: Session, words: list[str], images: list[Path], options: EmbedOptions, *, insecure: bool) -> None:
    """Answer the words and piped input, about the images; on a terminal without words, start a session.

    An embedding model prints a vector instead, made with `options`.
    """
    settings = Settings.from_env()
    with connect(settings) as client:
        described = _find(client, session.model, insecure=insecure)
        capabilities = described.texts("capabilities")
        if "embedding" in capabilities and "completion" not in capabilities:
            prompt = _prompt(words)
            print_vectors(client, session.model, [prompt] if prompt else [], options)
            return
        session.adapt_to(capabilities)
        if words or images or not (sys.stdin.isatty() and sys.stdout.isatty()):
            files = [read(path) for path in images]  # before the prompt: one may be a pipe
            _answer(client, session, _prompt(words, images), files)
        else:
            session.load(client)
            from cli.repl import Repl  # the line editor takes longer to import than all of this

            history = History(FILE, kept=not settings.no_history)
            Repl(client, session, history, settings.environ.get("TERM", "")).run(described)


def can_dim(environ: Mapping[str, str]) -> bool:
    """Whether the terminal understands colours, and its user wants them: https://no-color.org."""
    return environ.get("TERM") != "dumb" and not environ.get("NO_COLOR")


def terminal_width() -> int:
    """The terminal's width in cells; 0 if standard output is no terminal."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else 0


def _find(client: Client, model: str, *, insecure: bool) -> Reply:
    try:
        return client.describe(model)
    except ResponseError as error:
        if error.status != MISSING:
            raise
    fetch(client, model, insecure=insecure)
    return client.describe(model)


def _prompt(words: list[str], images: Iterable[Path] = ()) -> str:
    """Piped input, unless that is one of the images, then the words."""
    piped = "" if sys.stdin.isatty() or any(map(is_stdin, images)) else read_piped()
    return " ".join([piped, *words] if piped else words)


def _answer(client: Client, session: Session, prompt: str, files: list[Attachment]) -> None:
    message = session.message(prompt, files)
    if not message["content"]:
        if "images" in message:
            raise CommandError("a picture or a sound needs a question beside it")
        session.load(client)
        return
    answer = AnswerPrinter(sys.stdout, session.look)
    answer.follow(spinning(session.generate(client, message)))
    print("\n")
    if answer.final is not None:
        print(truncation(answer.final), end="", file=sys.stderr)
        if session.verbose:
            print(timings(answer.final), end="", file=sys.stderr)


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbedOptions:
    """Options of an embedding; None is the server's default. `dimensions` is the length of a vector."""

    dimensions: int | None = None
    truncate: bool | None = None
    keep_alive: str | None = None


def embed(model: str, texts: list[str], options: EmbedOptions) -> None:
    """Embed the texts, or without any the lines of piped input."""
    require_name(model)
    if not texts and not sys.stdin.isatty():
        texts = read_piped().splitlines()
    with connect() as client:
        print_vectors(client, model, texts, options)


def print_vectors(client: Client, model: str, texts: list[str], options: EmbedOptions) -> None:
    """Print each text's vector as JSON, one per line. Raises CommandError if there are no texts."""
    if not texts:
        raise CommandError(f'embedding models require input text. Usage: pronk run {model} "your text here"')
    vectors = client.embed(
        model, texts, truncate=options.truncate, dimensions=options.dimensions, keep_alive=options.keep_alive
    )
    for vector in vectors:
        print(json.dumps(vector, separators=(",", ":")))
