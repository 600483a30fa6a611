"""Entry point of the installed command `pronk` and of `python -m cli`.

Signal handlers come before all other imports, so that a server told to stop while it starts ends cleanly.
"""

from __future__ import annotations

import sys

from server.stopping import interrupted_at_once, leave_on_signals


def main() -> None:
    """Run one command and end the process with its exit code."""
    if sys.argv[1:2] in (["serve"], ["start"]):
        leave_on_signals()
        from cli.main import main as run_command
    else:
        with interrupted_at_once():
            from cli.main import main as run_command

    run_command()


if __name__ == "__main__":
    main()
