"""The entry of the installed command, and of `python -m cli`.

A server that is told to stop while it starts must end well, so that comes before all other imports.
"""

from __future__ import annotations

import sys

from server.stopping import leave_on_signals


def main() -> None:
    """Carry a command out and end the process with its exit code."""
    if sys.argv[1:2] in (["serve"], ["start"]):
        leave_on_signals()
    from cli.main import main as carry_out

    carry_out()


if __name__ == "__main__":
    main()
