"""What is typed or piped in: messages of several lines, and the history file that Ollama's command has too."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from io import TextIOWrapper
from pathlib import Path
from typing import TypeVar

from cli.arguments import CommandError, as_utf8
from registry.sizes import short_size

PROMPT = ">>> "
MORE = "... "
QUOTES = '"""'
MOST_INPUT = 1 << 30
"""Bytes or characters that are read from a pipe or a file."""
_PIECE = 1 << 20
Piece = TypeVar("Piece", str, bytes)
_OPENERS = ("", "/set system")  # what may stand before quotes that open a message; elsewhere they are text


def is_stdin(path: Path) -> bool:
    """Whether a path is what standard input reads, such as /dev/stdin."""
    try:
        return os.path.samestat(path.stat(), os.fstat(sys.stdin.fileno()))
    except (OSError, ValueError):  # it has gone, or standard input has no file
        return False


def read_piped() -> str:
    """All of standard input, with U+FFFD for each byte that is not UTF-8. Raises CommandError for what is no text."""
    if isinstance(sys.stdin, TextIOWrapper):
        sys.stdin.reconfigure(encoding="utf-8", errors="surrogateescape")
    pieces = []
    for piece in bounded(sys.stdin.read, "piped input"):
        if "\0" in piece:
            raise CommandError("piped input is no text; --image /dev/stdin takes a picture or a sound")
        pieces.append(piece)
    return as_utf8("".join(pieces))


def bounded(read: Callable[[int], Piece], name: str) -> Iterator[Piece]:
    """All that `read` gives, in pieces. Raises CommandError for more than MOST_INPUT: some devices have no end."""
    size = 0
    while piece := read(_PIECE):
        if (size := size + len(piece)) > MOST_INPUT:
            raise CommandError(f"{name} is larger than {short_size(MOST_INPUT)}")
        yield piece


def is_open(text: str) -> bool:
    """Whether what was typed begins a message in triple quotes that do not close yet."""
    before, quotes, rest = text.partition(QUOTES)
    return bool(quotes) and before.strip() in _OPENERS and QUOTES not in rest


def message_of(typed: str) -> str:
    """The message that was typed: without the triple quotes around it, and what comes after them."""
    before, quotes, rest = typed.partition(QUOTES)
    if not quotes or before.strip() not in _OPENERS:
        return typed
    return f"{before}{rest.partition(QUOTES)[0].removeprefix(chr(10))}"


FILE = Path("~/.ollama/history")


LIMIT = 1000  # lines kept


class History:
    """Lines for the arrow keys, saved in a file. An unusable file is ignored."""

    def __init__(self, path: Path, *, kept: bool) -> None:
        self.kept = kept
        self._path = path
        with suppress(RuntimeError):  # no home directory, so the file will not be found either
            self._path = path.expanduser()

    def load(self) -> list[str]:
        """The lines, oldest first; shortens a file that has grown."""
        if not self.kept:
            return []
        try:
            lines = self._path.read_text(encoding="utf-8", errors="replace").splitlines()
            if len(lines) > 2 * LIMIT:
                self._write("w", "".join(f"{line}\n" for line in lines[-LIMIT:]))
        except OSError:
            return []
        return lines[-LIMIT:]

    def add(self, text: str) -> None:
        """Append what was typed to the file: each line by itself, as Ollama's command reads it."""
        lines = [line for line in as_utf8(text).splitlines() if line.strip()]
        if self.kept and lines:
            with suppress(OSError):
                self._write("a", "".join(f"{line}\n" for line in lines))

    def _write(self, mode: str, text: str) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with open(self._path, mode, encoding="utf-8", opener=_private) as file:
            file.write(text)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
