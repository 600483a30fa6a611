"""A program at a terminal, with somebody who types and reads."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import sys
import termios
from types import TracebackType

from tests.serving import PATIENCE, ROOT

_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b[=>]|\r")
_FORWARD = re.compile(r"\x1b\[(\d*)C")  # a line editor draws blanks at the end of a line so
_SPINNER = re.compile("[\u2800-\u28ff][^\n\u2800-\u28ff]*\n?")  # with the line that it takes until it is wiped away
# The first terminal that the leader of a session opens is the one whose keys become signals.
# Whoever runs the tests in the background ignores Ctrl-C, and that is inherited.
_AS_LEADER = (
    "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL);"
    "os.open(os.ttyname(0), os.O_RDWR); os.execvp(sys.argv[1], sys.argv[1:])"
)


class Terminal:
    """Runs a command at a terminal of 80 columns; what it shows is read without control sequences."""

    def __init__(self, command: list[str], environ: dict[str, str]) -> None:
        self._master, inner = pty.openpty()
        termios.tcsetwinsize(inner, (24, 80))
        self._process = subprocess.Popen(
            [sys.executable, "-c", _AS_LEADER, *command],
            cwd=ROOT,
            env=environ,
            stdin=inner,
            stdout=inner,
            stderr=inner,
            start_new_session=True,
        )
        os.close(inner)
        self.raw = ""
        self._seen = 0

    def __enter__(self) -> Terminal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait(PATIENCE)
        os.close(self._master)

    @property
    def text(self) -> str:
        """All that was shown so far."""
        drawn = _FORWARD.sub(lambda match: " " * int(match[1] or 1), self.raw)
        return _SPINNER.sub("", _CONTROL.sub("", drawn))

    def type(self, keys: str) -> None:
        """Press keys: `\\n` is Enter, `\\x03` Ctrl-C, `\\x04` Ctrl-D, `\\udcff` the byte 255."""
        os.write(self._master, keys.encode(errors="surrogateescape"))

    def expect(self, wanted: str) -> str:
        """Read on until `wanted` is shown; what came since the last time, up to its end."""
        while (at := self.text.find(wanted, self._seen)) < 0:
            assert self._read(), f"{wanted!r} did not come:\n{self.text[self._seen :]}"
        start, self._seen = self._seen, at + len(wanted)
        return self.text[start : self._seen]

    def see(self, wanted: str) -> None:
        """Read on until `wanted` is drawn, be it beside a spinner that is wiped away."""
        while wanted not in self.raw:
            assert self._read(), f"{wanted!r} was not drawn:\n{self.raw}"

    def insist(self, key: str, wanted: str) -> None:
        """Press a key until `wanted` is shown: a line editor may miss a signal that comes while it draws."""
        while wanted not in self.text[self._seen :]:
            assert self._process.poll() is None, self.text
            self.type(key)
            while wanted not in self.text[self._seen :] and self._read(1.0):
                continue
        self.expect(wanted)

    def say(self, message: str) -> str:
        """Type a message and read what is shown until the next prompt, without the blank lines around it."""
        self.type(f"{message}\n")
        self.expect("\n")
        self._seen -= 1  # with nothing to show, that line end is the one before the prompt
        return self.expect("\n>>> ").removesuffix(">>> ").strip()

    def leave(self) -> int:
        """The exit code, once the program has ended."""
        while self._read():
            continue
        return self._process.wait(PATIENCE)

    def _read(self, patience: float = PATIENCE) -> bool:
        """Whether more came before patience, in seconds, or the program ended."""
        if not select.select([self._master], [], [], patience)[0]:
            return False
        try:
            part = os.read(self._master, 65536)
        except OSError:  # how Linux says that the program has closed the terminal
            return False
        self.raw += part.decode(errors="replace")
        return bool(part)
