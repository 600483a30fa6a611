"""The child's main function: say hello, load one model, then run passes until the parent goes."""

from __future__ import annotations

import gc
import logging
import os
import socket
import sys
import threading
from collections.abc import Callable
from types import TracebackType

import msgspec

from engine.messages import (
    Cancel,
    Crashed,
    Extend,
    FromRunner,
    Hello,
    Loaded,
    Loading,
    LoadModel,
    LoadRefused,
    Pause,
    Resize,
    Resized,
    StatesWritten,
    WriteStates,
    padded,
)
from engine.runner.channel import Channel, LateGrammar, RowsReady, StateRead, StatesDue
from engine.runner.context import Context, ModelError, NoMemory
from engine.runner.disk_cache import DiskCache, state_key
from engine.runner.embed_loop import EmbedLoop
from engine.runner.embed_request import PoolJob
from engine.runner.encoder import Encoder
from engine.runner.llamacpp import CPU_VARIANT, C, library_log, version
from engine.runner.log import ForwardingHandler, forward
from engine.runner.loop import Loop
from engine.runner.multimodal import MediaReader
from engine.runner.preprocess import MOST_SCORED
from engine.runner.prompt_cache import PromptCache
from engine.runner.repacking import copied_types
from engine.runner.sequence import Sequence
from engine.runner.shape import Budget
from engine.runner.streams import Streams
from engine.stats import Stats
from modelfile.containment import NOT_CONTAINED, Containment
from registry.logfields import fields

log = logging.getLogger("pronk.runner")

GRID = 128  # tokens between the borders at which steady prompts may be split


class Loops:
    """The loop that generates and the loop that embeds, as one. Owned by the loop thread.

    Other threads may call `stats`. `busy`: there was something to compute when it was last looked.
    """

    def __init__(self, loop: Loop, embed_loop: EmbedLoop) -> None:
        self.busy = False
        self.loop = loop
        self.embed_loop = embed_loop

    @property
    def idle(self) -> bool:
        """Whether there is nothing to do."""
        return self.loop.idle and self.embed_loop.idle

    @property
    def interruptible(self) -> frozenset[int]:
        """Request ids whose cancel should abort the running pass, because it computes much for them."""
        return self.loop.prefilling | self.embed_loop.computing

    @property
    def steps(self) -> int:
        """Grows as long as anything is computed: forward passes, and nodes of the encoder's graph."""
        nodes = 0 if self.loop.encoder is None else self.loop.encoder.nodes
        return self.loop.steps + self.embed_loop.steps + nodes

    def stats(self) -> Stats:
        """What is done and what has been done. Any thread may call this."""
        loop, embed_loop = self.loop, self.embed_loop
        return Stats(
            busy=self.busy,
            steps=self.steps,
            prompt_tokens=loop.prompt_tokens + embed_loop.tokens,
            generated_tokens=loop.generated_tokens,
            running=loop.busy + embed_loop.busy,
            waiting=loop.waiting,
            batch=loop.batch,
            cells_used=loop.cells_used,
            cells=loop.streams.shape.total,
            cached_tokens=loop.cached_tokens,
            decode_passes=loop.decode_passes,
            decode_rows=loop.decode_rows,
            drafted_tokens=loop.speculation.drafted,
            accepted_tokens=loop.speculation.accepted,
        )

    def submit(self, item: Sequence | PoolJob) -> None:
        """Queue a request in its loop."""
        if isinstance(item, PoolJob):
            self.embed_loop.submit(item)
        else:
            self.loop.submit(item)

    def cancel(self, request_id: int) -> None:
        """Drop a request from either loop. An unknown id is one that has just ended: nothing happens."""
        self.loop.cancel(request_id)
        self.embed_loop.cancel(request_id)


def run(
    sock: socket.socket, containment: Containment = NOT_CONTAINED, states_sock: socket.socket | None = None
) -> None:
    """Serve the parent at the other end of `sock`. Returns only when the model cannot be loaded.

    `containment` is told to the parent. `states_sock` is for states that it keeps on disk.
    """
    channel = Channel(sock)
    handler = forward(channel.send)
    _exit_on_unhandled_errors(channel, handler)
    C.llama_backend_init()
    channel.send([Hello(copied_types(), *containment)])
    log.debug("library imported", extra=fields(llama_cpp_python=version(), cpu_variant=CPU_VARIANT or None))
    spec = channel.receive_load()
    # A pass must hold at least one token of each running answer, and two where one is alone.
    spec = msgspec.structs.replace(spec, n_batch=max(spec.n_batch, spec.n_parallel, 2))
    budget = budget_of(spec)
    try:
        context = make_context(spec, budget, lambda progress: channel.send([Loading(progress)]))
    except (ModelError, MemoryError) as error:
        memory = isinstance(error, NoMemory | MemoryError)
        channel.send([LoadRefused(str(error) or "failed to load model", memory)])
        return
    media = None if context.projector is None else MediaReader(context.projector)
    disk = None if states_sock is None else make_disk_cache(context, spec, states_sock)
    if disk is not None:
        disk.start(None if media is None else media.placeholders, channel.state_read, channel.states_due)
    loop = make_loop(context, spec, budget, channel.send, disk)
    loops = Loops(loop, EmbedLoop(context, spec.embedding, channel.send))
    if loops.loop.encoder is not None and context.on_cpu:
        loops.loop.encoder.start(channel.rows_ready)
    channel.serve(context.vocabulary, context.abort, loops, budget.longest, media)
    channel.send([_loaded(context, spec)])
    log.debug("context made", extra=fields(n_ctx=spec.n_ctx, cells=spec.n_cells, parallel=spec.n_parallel))
    gc.collect()
    gc.freeze()  # what lives until now lives forever: keep the collector from walking it between tokens
    while True:
        run_once(context, loops, channel)


def run_once(context: Context, loops: Loops, channel: Channel) -> None:
    """Take in what has arrived, then run one pass of answers and, if it is their turn, one of embeddings."""
    # First, before anything is taken in: a cancel that arrives from here on may raise the flag again.
    context.abort.clear()
    _take_all(loops, channel)
    plan = loops.loop.plan()
    # What arrived while planning may cancel a prefill in this very plan: look again before the long pass.
    while _take_all(loops, channel):
        plan = loops.loop.plan()
    if plan:
        loops.loop.step(plan)
    crowded = not loops.loop.idle
    if loops.embed_loop.ready(crowded=crowded):
        loops.embed_loop.step(crowded=crowded)


def _loaded(context: Context, spec: LoadModel) -> Loaded:
    projector = context.projector
    return Loaded(
        n_ctx=spec.n_ctx,
        adds_bos=context.vocabulary.adds_bos,
        n_batch=context.n_batch,
        mapped=context.mapped,
        host=context.host,
        cpu_variant=CPU_VARIANT,
        sees=projector is not None and projector.sees,
        hears=projector is not None and projector.hears,
        buffers=context.device_buffers(),
    )


def budget_of(spec: LoadModel) -> Budget:
    """The cells with which a model is loaded."""
    return Budget(spec.n_cells, spec.n_parallel, padded(spec.n_ctx))


def make_context(spec: LoadModel, budget: Budget, progress: Callable[[float], None]) -> Context:
    """Load the model, with a stream for each sequence. `progress` gets 0 to 1. Raises ModelError."""
    return Context(spec, budget.widest, max(spec.n_parallel, MOST_SCORED), progress)


def make_disk_cache(context: Context, spec: LoadModel, sock: socket.socket) -> DiskCache | None:
    """The prompt cache on disk, which the server writes at the other end of `sock`; None if there is none."""
    if spec.disk_cache is None:
        return None
    key, can_cut = state_key(spec, GRID), context.can_cut_states
    return DiskCache(spec.disk_cache, key, sock, can_cut=can_cut, memory=spec.prompt_cache)


def make_loop(
    context: Context,
    spec: LoadModel,
    budget: Budget,
    emit: Callable[[list[FromRunner]], None],
    disk: DiskCache | None = None,
) -> Loop:
    """The loop that generates; it hands its events to `emit`."""
    can_cut = context.can_cut_states
    if disk is None:
        prompt_cache = PromptCache(spec.prompt_cache, can_cut=can_cut)
    else:
        prompt_cache = PromptCache(spec.prompt_cache, can_cut=can_cut, evicted=disk.offer)
    streams = Streams(context, prompt_cache, GRID, disk)
    encoder = None if context.projector is None else Encoder(context.projector, spec.row_cache)
    return Loop(context, streams, budget, grid=GRID, emit=emit, encoder=encoder, lookup=spec.lookup)


def _take_all(loops: Loops, channel: Channel) -> bool:
    """Hand the loops all that has arrived, waiting if they are idle. Returns whether anything had."""
    changed = False
    while True:
        loops.busy = not loops.idle
        if not loops.busy:
            loops.loop.count()
            loops.loop.tell_places(resting=True)
        if (item := channel.take(block=not loops.busy)) is None:
            return changed
        changed = True
        if isinstance(item, Cancel):
            loops.cancel(item.id)
        elif isinstance(item, LateGrammar):
            loops.loop.constrain(item.id, item.grammar)
        elif isinstance(item, Pause):
            loops.loop.pause(item.id, paused=item.paused)
        elif isinstance(item, Extend):
            loops.loop.extend(item.id, item.num_ctx)
        elif isinstance(item, Resize):
            _resize(loops, channel, item)
        elif isinstance(item, StatesDue):
            loops.loop.streams.write_idle(may_save=loops.idle)
        elif isinstance(item, WriteStates):
            loops.loop.streams.write_all()
            channel.send([StatesWritten(item.id)])
        elif not isinstance(item, RowsReady | StateRead):
            loops.submit(item)


def _resize(loops: Loops, channel: Channel, message: Resize) -> None:
    """Make a KV cache larger or smaller. No prompt is measured by a larger context before it is there."""
    if message.n_cells:
        admission = loops.loop.admission
        budget = Budget(message.n_cells, admission.budget.streams, padded(message.n_ctx))
        if done := admission.resize(budget):
            channel.n_ctx = budget.longest
    else:
        done = loops.embed_loop.resize(padded(message.n_ctx))
    channel.send([Resized(message.id, done)])


def _exit_on_unhandled_errors(channel: Channel, handler: ForwardingHandler) -> None:
    """Tell the parent and end the process on an unhandled exception of any thread: no request may wait in vain."""

    def die(kind: type[BaseException], error: BaseException | None, trace: TracebackType | None) -> None:
        log.critical("runner failed", exc_info=(kind, error or kind(), trace))
        handler.flush()
        channel.send([Crashed(f"internal error: {kind.__name__}", issubclass(kind, MemoryError))])
        os._exit(1)

    def abort(reason: str) -> None:
        handler.flush()
        channel.send([Crashed(reason, library_log().out_of_memory)])

    library_log().on_abort(abort)
    sys.excepthook = die
    threading.excepthook = lambda args: die(args.exc_type, args.exc_value, args.exc_traceback)
