"""Entry point of a model's child process: `python -m engine.runner FD`, FD being its end of a socket pair.

It imports llama.cpp, sends `Hello` and waits for one `LoadModel`: a spare child has all slow imports behind it.
"""

from __future__ import annotations

import ctypes
import logging
import os
import resource
import signal
import socket
import sys

from registry.logfields import level_named

PR_SET_PDEATHSIG = 1


def main() -> None:
    """Harden the process (no core files, dies with its parent), then serve."""
    _die_with_parent()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core file would hold what users wrote
    level = level_named(os.environ.get("PRONK_RUNNER_LOG", ""))
    logging.basicConfig(level=level, format="runner: %(message)s")  # until the server can be sent messages

    from engine.runner.child import run  # deferred: slow, and the parent may die meanwhile

    parent = socket.socket(fileno=int(sys.argv[1]))
    parent.set_inheritable(False)  # what a library starts must not keep it open
    run(parent)


def _die_with_parent() -> None:
    """Ask the kernel for SIGKILL when the parent dies, besides the end of file that the channel sees."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in a terminal reaches the whole group; the parent decides
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


if __name__ == "__main__":
    main()
