"""What was typed, kept from one session to the next in the file that Ollama's command uses too."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

try:
    import readline
except ImportError:  # a Python that was built without it: lines can be typed, not called back
    readline = None  # type: ignore[assignment]

FILE = Path("~/.ollama/history")
LIMIT = 1000  # lines that are kept


class History:
    """The lines that the arrow keys bring back. A file that cannot be used is no reason not to talk."""

    def __init__(self, path: Path, *, kept: bool) -> None:
        self.kept = kept
        self._path = path
        with suppress(RuntimeError):  # there is no home directory; and no such file, then
            self._path = path.expanduser()

    def load(self) -> None:
        """Fill the line editor, and cut a file that has grown."""
        if readline is None or not self.kept:
            return
        with suppress(OSError):
            lines = self._path.read_text(encoding="utf-8", errors="replace").splitlines()
            for line in lines[-LIMIT:]:
                readline.add_history(line)
            if len(lines) > 2 * LIMIT:
                self._write("w", "".join(f"{line}\n" for line in lines[-LIMIT:]))

    def add(self, line: str) -> None:
        """Keep a line that was typed. The line editor has it already."""
        if self.kept and line.strip():
            with suppress(OSError):
                self._write("a", f"{line}\n")

    def _write(self, mode: str, text: str) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with open(self._path, mode, encoding="utf-8", opener=_private) as file:
            file.write(text)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
