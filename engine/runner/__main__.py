"""Entry point of a model's child process: `python -m engine.runner FD [FD]`, FD being its end of a socket pair.

The second one is for states that the server keeps on disk.

It imports llama.cpp, sends `Hello` and waits for one `LoadModel`: a spare child has all slow imports behind it.
"""

from __future__ import annotations

import logging
import os
import socket
import sys
from pathlib import Path

from modelfile.backends import gpu_backends
from modelfile.containment import compile_modules, contain
from modelfile.operating_system import prepare_child
from registry.logfields import level_named


def main() -> None:
    """Harden the process (no core files, ends with its parent, contained), then serve."""
    prepare_child()
    compile_modules(Path(__file__).parent)
    containment = contain(gpu=bool(gpu_backends()))
    level = level_named(os.environ.get("PRONK_RUNNER_LOG", ""))
    logging.basicConfig(level=level, format="runner: %(message)s")  # until the server can be sent messages

    from engine.runner.child import run  # deferred: slow, and the parent may die meanwhile

    parent, *others = (socket.socket(fileno=int(number)) for number in sys.argv[1:3])
    for sock in (parent, *others):
        sock.set_inheritable(False)  # what a library starts must not keep it open
    run(parent, containment, next(iter(others), None))


if __name__ == "__main__":
    main()
