"""Explains processes killed by a signal: its name, the processor's name, and advice.

Standard library only, because installation checks use it.
"""

from __future__ import annotations

import functools
import platform
import signal
from pathlib import Path
from typing import Final

from modelfile import backends
from modelfile.operating_system import cpu_info

MAKEFILE: Final = Path(__file__).resolve().parents[1] / "Makefile"
"""Exists in a checkout only."""

_TEST: Final = "`pronk doctor` tests whether the engine works on it"
_ADVICE: Final = {
    signal.SIGILL: "the engine does not fit this processor",
    signal.SIGSEGV: _TEST,
    signal.SIGFPE: _TEST,
    signal.SIGBUS: "a file of the model was cut short, or its disk failed",
    signal.SIGABRT: "llama.cpp gave up; the server's log has its last words",
}
CRASHES: Final = frozenset(_ADVICE)
"""Signals that mean a crash of the program itself."""


def advice(number: int) -> str:
    """Advice on a signal in `CRASHES`."""
    text = _ADVICE[signal.Signals(number)]
    return f"{text}; {remedy()}" if number == signal.SIGILL else text


def remedy() -> str:
    """How to repair a broken engine, depending on how it was installed; the end of a sentence."""
    if MAKEFILE.is_file():
        return "`make engine` compiles it anew"
    library = backends.library_folder()
    folder = backends.module_folder(library) if library else None
    if folder and backends.variants(folder):
        return f"rebuild the image, or name another {backends.VARIANT}"
    return "install llama-cpp-python again"


def name_of(number: int) -> str:
    """A signal's name and meaning: `SIGILL (Illegal instruction)`."""
    try:
        name = signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
    return f"{name} ({signal.strsignal(number)})"


@functools.cache
def processor() -> str:
    """The processor's model name."""
    fields = (line.partition(":") for line in cpu_info().splitlines())
    named = (value.strip() for key, _, value in fields if key.strip() in ("model name", "Model", "cpu model"))
    return next(named, "") or platform.processor() or platform.machine()
