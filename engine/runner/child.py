"""The life of the child: say hello, load one model, answer until the parent goes."""

from __future__ import annotations

import gc
import logging
import os
import socket
import sys
import threading
from types import TracebackType

import msgspec

from engine.messages import Cancel, Crashed, Hello, Loaded, Loading, LoadModel, LoadRefused
from engine.runner.channel import Mailbox
from engine.runner.context import Context, ModelError
from engine.runner.embed_loop import Embedding
from engine.runner.embed_request import EmbedJob
from engine.runner.kvcache import KVCache
from engine.runner.llamacpp import CPU_VARIANT, C, library_log, version
from engine.runner.loop import Loop
from engine.runner.preprocess import padded
from engine.runner.repacking import copied_types
from engine.runner.sequence import Sequence

# All that a child has to do: answers and vectors, a pass of each in turn.


class Work:
    """What runs and what waits, of both kinds. Owned by the loop thread; the mailbox' thread may read the counters."""

    def __init__(self, loop: Loop, embedding: Embedding) -> None:
        self.loop = loop
        self.embedding = embedding

    @property
    def idle(self) -> bool:
        """Whether there is nothing to do."""
        return self.loop.idle and self.embedding.idle

    @property
    def interruptible(self) -> frozenset[int]:
        """The ids for whose end the pass that runs is worth aborting: what it computes for them is long."""
        return self.loop.prefilling | self.embedding.computing

    @property
    def steps(self) -> int:
        """Passes since the load."""
        return self.loop.steps + self.embedding.steps

    @property
    def busy(self) -> int:
        """Number of requests that are being answered."""
        return self.loop.busy + self.embedding.busy

    @property
    def waiting(self) -> int:
        """Number of requests that wait for a place."""
        return self.loop.waiting

    @property
    def cached_tokens(self) -> int:
        """Tokens of finished answers that can still be reused."""
        return self.loop.cached_tokens

    def submit(self, item: Sequence | EmbedJob) -> None:
        """Queue a request."""
        if isinstance(item, EmbedJob):
            self.embedding.submit(item)
        else:
            self.loop.submit(item)

    def cancel(self, id: int) -> None:
        """Drop a request wherever it is; unknown ids are those that have just ended."""
        self.loop.cancel(id)
        self.embedding.cancel(id)


log = logging.getLogger(__name__)

EXTRA_SLOTS = 8  # sequence ids beyond the running ones, for what finished requests leave behind
IDLE_CONTEXTS = 0.5  # what finished sequences may keep of the cache, in full contexts, besides the last one


def run(sock: socket.socket) -> None:
    """Serve the parent at the other end of `sock`; returns only when the model cannot be loaded."""
    mailbox = Mailbox(sock)
    _die_loudly(mailbox)
    C.llama_backend_init()
    mailbox.send([Hello(version(), C.llama_supports_gpu_offload(), copied_types())])
    spec = mailbox.receive_load()
    # One pass must take one token of each running answer at least.
    spec = msgspec.structs.replace(spec, n_batch=max(spec.n_batch, spec.n_parallel))
    try:
        context = Context(spec, spec.n_parallel + EXTRA_SLOTS, lambda progress: mailbox.send([Loading(progress)]))
    except ModelError as error:
        mailbox.send([LoadRefused(str(error))])
        return
    work = Work(_make_loop(context, spec, mailbox), Embedding(context, spec.embedding, mailbox.send))
    mailbox.serve(context.vocabulary, context.abort, work, padded(spec.n_ctx))
    mailbox.send([_loaded(context, spec)])
    gc.collect()
    gc.freeze()  # what lives until now lives forever: keep the collector from walking it between tokens
    while True:
        turn(context, work, mailbox)


def turn(context: Context, work: Work, mailbox: Mailbox) -> None:
    """Take in what has arrived, then run one pass of answers and, if it is their turn, one of texts."""
    # First of all: a cancel that arrives from here on must find the flag down and can leave it up.
    context.abort.clear()
    _take_all(work, mailbox)
    plan = work.loop.plan()
    # What arrived while planning may cancel a prefill in this very plan: look again before the long pass.
    while _take_all(work, mailbox):
        plan = work.loop.plan()
    if plan:
        work.loop.step(plan)
    crowded = not work.loop.idle
    if work.embedding.ready(crowded=crowded):
        work.embedding.step(crowded=crowded)


def _loaded(context: Context, spec: LoadModel) -> Loaded:
    adds_bos = context.vocabulary.adds_bos
    sizes = spec.n_ctx, spec.n_cells, spec.n_parallel, context.weights
    return Loaded(*sizes, context.gpu_share, adds_bos, context.n_batch, context.mapped, context.host, CPU_VARIANT)


def _make_loop(context: Context, spec: LoadModel, mailbox: Mailbox) -> Loop:
    cache = KVCache(context, spec.n_parallel + EXTRA_SLOTS, int(IDLE_CONTEXTS * padded(spec.n_ctx)))
    return Loop(context, cache, n_parallel=spec.n_parallel, n_cells=spec.n_cells, emit=mailbox.send)


def _take_all(work: Work, mailbox: Mailbox) -> bool:
    """Take over what has arrived, waiting for something if there is nothing to do; whether there was any."""
    changed = False
    while (item := mailbox.take(block=work.idle)) is not None:
        changed = True
        if isinstance(item, Cancel):
            work.cancel(item.id)
        else:
            work.submit(item)
    return changed


def _die_loudly(mailbox: Mailbox) -> None:
    """An exception that nobody handles, on whatever thread, ends the process: never does a request wait in vain."""

    def die(kind: type[BaseException], error: BaseException | None, trace: TracebackType | None) -> None:
        log.critical("the runner fails", exc_info=(kind, error or kind(), trace))
        mailbox.send([Crashed(f"internal error: {kind.__name__}")])
        os._exit(1)

    library_log().on_abort(lambda why: mailbox.send([Crashed(why)]))
    sys.excepthook = die
    threading.excepthook = lambda args: die(args.exc_type, args.exc_value, args.exc_traceback)
