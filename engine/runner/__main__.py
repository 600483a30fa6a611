"""Entry of the child process: `python -m engine.runner FD`, FD being its end of a socket pair.

It imports the library, says hello and waits for one `Load`: a spare child has all slow imports behind it.
"""

from __future__ import annotations

import ctypes
import gc
import logging
import os
import signal
import socket
import sys

import llama_cpp
import llama_cpp.llama_cpp as C

from engine.messages import Cancel, Hello, Load, Loaded, LoadFailed, Loading
from engine.runner.context import Context, ModelError
from engine.runner.intake import padded
from engine.runner.kvcache import KVCache
from engine.runner.loop import Loop
from engine.runner.mailbox import Mailbox

PR_SET_PDEATHSIG = 1
EXTRA_SLOTS = 8  # sequence ids beyond the running ones, for what finished requests leave behind


def main() -> None:
    """Say hello, load, and run until the parent goes."""
    _die_with_parent()
    mailbox = Mailbox(socket.socket(fileno=int(sys.argv[1])))
    C.llama_backend_init()
    mailbox.send([Hello(llama_cpp.__version__, C.llama_supports_gpu_offload())])
    spec = mailbox.receive_load()
    n_slots = spec.n_parallel + EXTRA_SLOTS
    try:
        context = Context(spec, n_slots, lambda progress: mailbox.send([Loading(progress)]))
    except ModelError as error:
        mailbox.send([LoadFailed(str(error))])
        return
    loop = Loop(
        context,
        KVCache(context, n_slots),
        n_parallel=spec.n_parallel,
        n_cells=spec.n_cells,
        n_batch=spec.n_batch,
        emit=mailbox.send,
    )
    mailbox.serve(context, loop, padded(spec.n_ctx))
    mailbox.send([Loaded(spec.n_ctx, spec.n_cells, spec.n_parallel, context.weights, context.gpu_share)])
    gc.collect()
    gc.freeze()  # what lives until now lives forever: keep the collector from walking it between tokens
    _run(loop, mailbox)


def _run(loop: Loop, mailbox: Mailbox) -> None:
    while True:
        _take_all(loop, mailbox)
        parts = loop.plan()
        # What arrived while planning may cancel a prefill in this very plan: look again before the long pass.
        while _take_all(loop, mailbox):
            parts = loop.plan()
        if parts:
            loop.step(parts)


def _take_all(loop: Loop, mailbox: Mailbox) -> bool:
    """Hand the loop what has arrived, waiting for something if it has nothing to do; whether there was any."""
    changed = False
    while (item := mailbox.take(block=loop.idle)) is not None:
        changed = True
        if isinstance(item, Cancel):
            loop.cancel(item.id)
        else:
            loop.submit(item)
    return changed


def _die_with_parent() -> None:
    """Ask the kernel for SIGKILL when the parent dies, besides the end of file that the mailbox sees."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in a terminal reaches the whole group; the parent decides
    logging.basicConfig(level=os.environ.get("PRONK_RUNNER_LOG", "WARNING"), format="runner: %(message)s")
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


if __name__ == "__main__":
    main()
