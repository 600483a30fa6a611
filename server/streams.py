"""Standard streams that are closed when a program starts."""

from __future__ import annotations

import os
import sys


def open_standard_streams() -> None:
    """Open /dev/null for each standard stream that is closed at the start.

    Else sockets get the descriptors 0 to 2, and children or prints write into them; and what is printed to a standard
    error that is None goes to standard output.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # opened as the lowest free number
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, "w" if number else "r", closefd=False))
