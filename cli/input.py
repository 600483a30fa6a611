"""Text from standard input: messages typed by the user, with the history file that Ollama's command uses too."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from io import TextIOWrapper
from pathlib import Path

from cli.arguments import CommandError, as_utf8

try:
    import readline
except ImportError:  # Python built without it: no history on the arrow keys
    readline = None  # type: ignore[assignment]


PROMPT = ">>> "
MORE = "... "
QUOTES = '"""'
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
    text = as_utf8(sys.stdin.read())
    if "\0" in text:
        raise CommandError("piped input is no text; --image /dev/stdin takes a picture or a sound")
    return text


class LineReader:
    """Reads messages from the terminal; a message in triple quotes may span lines."""

    def __init__(self, history: History) -> None:
        self.history = history
        if isinstance(sys.stdin, TextIOWrapper):
            sys.stdin.reconfigure(errors="surrogateescape")  # a stray byte must not end the conversation
        history.load()

    def read(self) -> str:
        """The next message. Raises EOFError at the end, KeyboardInterrupt on Ctrl-C."""
        line = self._ask(PROMPT)
        before, quotes, text = line.partition(QUOTES)
        if not quotes or before.strip() not in _OPENERS:
            return line
        return f"{before}{self._rest(text)}"

    def _rest(self, text: str) -> str:
        """The text up to the closing quotes; reads more lines as needed."""
        while QUOTES not in text:
            text += "\n" + self._ask(MORE)
        return text[: text.index(QUOTES)].removeprefix("\n")

    def _ask(self, prompt: str) -> str:
        line = as_utf8(input(prompt))
        self.history.add(line)
        return line


FILE = Path("~/.ollama/history")


LIMIT = 1000  # lines kept


class History:
    """Lines for the arrow keys, saved in a file. An unusable file is ignored."""

    def __init__(self, path: Path, *, kept: bool) -> None:
        self.kept = kept
        self._path = path
        with suppress(RuntimeError):  # no home directory, so the file will not be found either
            self._path = path.expanduser()

    def load(self) -> None:
        """Fill the line editor; shorten a file that has grown."""
        if readline is None or not self.kept:
            return
        with suppress(OSError):
            lines = self._path.read_text(encoding="utf-8", errors="replace").splitlines()
            for line in lines[-LIMIT:]:
                readline.add_history(line)
            if len(lines) > 2 * LIMIT:
                self._write("w", "".join(f"{line}\n" for line in lines[-LIMIT:]))

    def add(self, line: str) -> None:
        """Append a line to the file. The line editor has it already."""
        if self.kept and line.strip():
            with suppress(OSError):
                self._write("a", f"{line}\n")

    def _write(self, mode: str, text: str) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with open(self._path, mode, encoding="utf-8", opener=_private) as file:
            file.write(text)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
