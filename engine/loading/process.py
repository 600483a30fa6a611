"""One child process: start it, talk to it, end it. Runs on the server's event loop; nothing here blocks."""

from __future__ import annotations

import asyncio
import itertools
import logging
import math
import os
import signal
import socket
from array import array
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial

import msgspec

from engine.api import PromptRead, Queued
from engine.embed_messages import Embed, Embedded, Rerank, Reranked
from engine.errors import (
    ContextExceeded,
    EngineError,
    InvalidRequest,
    LoadFailed,
    OutOfMemory,
    RunnerDied,
    RunnerError,
)
from engine.fair_queue import CACHE_OWNER, asking
from engine.loading import devices
from engine.loading.crashes import died_loading, how_it_ended
from engine.loading.deaths import OUT_OF_MEMORY_KILLS
from engine.loading.state_folder import StateFolder
from engine.loading.state_receiver import StateReceiver
from engine.loading.token_stream import TokenStream
from engine.messages import (
    FRAME_HEADER,
    MAX_FRAME,
    Cancel,
    Chunk,
    Constrain,
    Crashed,
    Detokenize,
    Done,
    Extend,
    Failed,
    FromRunner,
    Grammar,
    Hello,
    Loaded,
    Loading,
    LoadModel,
    LoadRefused,
    LogLine,
    NeedsRoom,
    Pause,
    Ping,
    PlacedFile,
    PromptProgress,
    QueuePlace,
    Report,
    Resize,
    Resized,
    StatesWritten,
    Submit,
    Text,
    Tokenize,
    Tokens,
    ToRunner,
    WriteStates,
    encode_frame,
    take_events,
)
from engine.spawn import socket_pair, start_child
from engine.stats import NO_STATS, Stats
from modelfile.containment import NOT_CONTAINED, Containment
from modelfile.crashes import CRASHES, name_of
from modelfile.operating_system import has_ended, is_stopped, kill_group
from modelfile.watchdog import LOOKS, PATIENCE, STUCK_FACTOR, Watchdog
from registry.logfields import REQUEST_ID, fields

EXIT_GRACE = 1.0  # seconds between the end of the conversation and SIGKILL
MOST_TOKENS = 1 << 31  # token ids are int32
STALLED = "timed out waiting for llama-server to start - the load made no progress"
PROGRESS = 1 << 20  # bytes that a process has in memory beyond what it had: it computes
NO_MEMORY = "llama-server reported out-of-memory during startup"
log = logging.getLogger("pronk.engine")


class RunnerProcess(asyncio.Protocol):
    """A child process and its socket. Each request in it is a message with an id, which the answers carry too.

    `spawn` returns as soon as the process has started; `load` waits for its library and then for the model. However the
    process ends, every request in it fails with RunnerDied; `exited` is set once it has been reaped and all that it had
    forked is dead.

    `greeted` is set at its `Hello`, or at its end: then `copied_types` are the types of weights that the library copies
    (`runner.repacking`), and `containment` says what it cannot do any more. `weights_loaded`: which part of the model's
    weights is, from 0 to 1. `stats` are the last that it told. `answered`: it has finished a request. `on_end` is
    called at its end, before its requests fail. `ending` says how it ended, for users; `hung`: it was killed because it
    did nothing any more. Its log records are written here, with its pid and `model`, the name under which the model was
    loaded.
    """

    def __init__(self, patience: float) -> None:
        self.exited = asyncio.Event()
        self.greeted = asyncio.Event()
        self.copied_types: frozenset[str] = frozenset()
        self.containment = NOT_CONTAINED
        self.stats = NO_STATS
        self.loaded: Loaded | None = None
        self.weights_loaded = 0.0
        self.model = ""
        self._patience = patience
        self._ids = itertools.count(1)
        self._streams: dict[int, TokenStream] = {}
        self._replies: dict[int, asyncio.Future[FromRunner]] = {}
        self._load: asyncio.Future[Loaded] | None = None
        self._stall: asyncio.Timeout | None = None
        self._stall_timeout = math.inf
        self._resident = 0  # bytes, when the load last got on
        self.ending = ""
        self.hung = False
        self._heard = self._progress = False  # since the watchdog's last look
        self._signal = 0  # the signal that killed it, or 0
        self.answered = False
        self.on_end: Callable[[], None] = lambda: None
        self._last_words = ""
        self._short_of_memory = False
        self._failure = ""  # why requests fail; empty while they do not
        self._gone = False
        self._disconnected = asyncio.Event()
        self._buffer = bytearray()
        self._transport: asyncio.Transport | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._watchdog: asyncio.Task[None] | None = None
        self._exit_task: asyncio.Task[None] | None = None
        self._states_sock: socket.socket | None = None
        self._receiver: StateReceiver | None = None

    @classmethod
    async def spawn(
        cls, environ: Mapping[str, str], patience: float = PATIENCE, *, keeps_states: bool = False
    ) -> RunnerProcess:
        """Start a child. It gets what `child_environment` leaves of `environ`. Raises OSError.

        It is killed when it gives no sign of life for `patience` seconds; inf: never. Before it has loaded a model it
        only must not be stopped. `keeps_states`: it has a second socket, for `keep_states_in`.
        """
        OUT_OF_MEMORY_KILLS.begin()
        self = cls(patience)
        further: list[int] = []
        if keeps_states:
            self._states_sock, theirs = socket_pair()
            further.append(theirs)
        try:
            self._process, ours = await start_child("engine.runner", environ, further)
        except BaseException:
            self._close_states()
            raise
        finally:
            for descriptor in further:
                os.close(descriptor)
        transport, _ = await asyncio.get_running_loop().create_connection(lambda: self, sock=ours)
        self._transport = transport
        log.debug("process started", extra=fields(pid=self.pid))
        self._exit_task = asyncio.create_task(self._await_exit())
        if not math.isinf(patience):
            self._watchdog = asyncio.create_task(self._watch())
        return self

    @property
    def pid(self) -> int:
        """The child's process id."""
        assert self._process is not None
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the child still listens."""
        return not self._gone

    @property
    def usable(self) -> bool:
        """Whether the child listens and no signal has stopped it."""
        return self.alive and not self.stopped

    @property
    def stopped(self) -> bool:
        """Whether a signal has stopped it, or ended it just now."""
        return is_stopped(self.pid) or has_ended(self.pid)

    @property
    def killed(self) -> bool:
        """Whether a signal ended it that means no crash of its own: SIGKILL, as where memory is short."""
        return bool(self._signal) and self._signal not in CRASHES

    @property
    def cause(self) -> str:
        """The signal of a crash that ended it, such as `SIGSEGV (Segmentation fault)`; else empty."""
        return name_of(self._signal) if self._signal in CRASHES else ""

    @property
    def keeps_states(self) -> bool:
        """Whether its states may be kept on disk."""
        return self._states_sock is not None or self._receiver is not None

    def keep_states_in(self, folder: StateFolder, digest: str) -> None:
        """Keep states in the part of a folder that is for weights of this digest, from its load on."""
        if self._states_sock is not None:
            self._receiver = StateReceiver(self._states_sock, folder, digest)
            self._states_sock = None

    async def write_states(self, seconds: float) -> None:
        """Have what finished requests left written to the disk, as far as that takes no longer."""
        if self._receiver is None or self.loaded is None or not self.usable:
            return
        message_id = next(self._ids)
        with suppress(TimeoutError, RunnerDied):
            async with asyncio.timeout(seconds):
                await self._ask(message_id, WriteStates(message_id))

    async def load(self, spec: LoadModel, stall_timeout: float) -> Loaded:
        """Load the model. Raises LoadFailed: refused, ended, or no progress for `stall_timeout` seconds (inf: wait)."""
        if self._gone:
            with suppress(TimeoutError):
                await asyncio.wait_for(self.exited.wait(), 2 * EXIT_GRACE)
            raise died_loading(f"the process had ended before: {self.ending}", self._signal, model_sent=False)
        self._load = asyncio.get_running_loop().create_future()
        self._stall_timeout = stall_timeout
        self._resident = devices.resident_bytes(self.pid)
        self._send(spec)
        try:
            while self.loaded is None:
                await self._wait_for_progress()
        finally:
            self._load = self._stall = None
        return self.loaded

    async def _wait_for_progress(self) -> None:
        """Wait until the model is loaded, or as long as may pass without a message. Raises LoadFailed.

        Who fills memory gets on, too: llama.cpp tells nothing while it clears a large KV cache.
        """
        assert self._load is not None
        limit = self._stall_timeout
        try:
            async with asyncio.timeout(None if math.isinf(limit) else limit) as self._stall:
                self.loaded = await asyncio.shield(self._load)
        except TimeoutError:
            before, self._resident = self._resident, devices.resident_bytes(self.pid)
            if self._resident < before + PROGRESS:
                told = f"for {limit:g} s, the limit that OLLAMA_LOAD_TIMEOUT sets"
                raise LoadFailed(f"{STALLED} {told}") from None

    def submit(
        self, message: Submit, needs_room: Callable[[int, int], None] = lambda message_id, tokens: None
    ) -> tuple[int, TokenStream]:
        """Send a prompt. Returns the stream of the answer, and the id for `cancel`, which the message gets too.

        `needs_room` is called with the id and the tokens so far where the answer waits for an `extend`.
        """
        message_id = next(self._ids)
        stream = TokenStream(partial(needs_room, message_id), partial(self._pause, message_id))
        if self._failure:
            stream.finish(self._died())
            return message_id, stream
        self._streams[message_id] = stream  # if the child has just gone, it ends as soon as the cause is known
        try:
            asked = {"trace_id": REQUEST_ID.get(), "client": asking(), "cache_owner": CACHE_OWNER.get()}
            self._send(msgspec.structs.replace(message, id=message_id, **asked))
        except InvalidRequest as error:
            self._streams.pop(message_id).finish(error)
        return message_id, stream

    def _pause(self, message_id: int, paused: bool) -> None:
        """Let an answer rest whose reader is far behind, or go on; does nothing if it has ended."""
        if message_id in self._streams:
            self._send(Pause(message_id, paused))

    def constrain(self, message_id: int, grammar: Grammar | None) -> None:
        """Give an answer with triggers its grammar, or none; does nothing if it has ended.

        Raises InvalidRequest for a message that is too large.
        """
        if message_id in self._streams:
            self._send(Constrain(message_id, grammar, REQUEST_ID.get(), asking()))

    def extend(self, message_id: int, num_ctx: int) -> None:
        """Tell an answer that needs room how many tokens of context it may fill; does nothing if it has ended."""
        if message_id in self._streams:
            self._send(Extend(message_id, num_ctx))

    async def resize(self, n_ctx: int, n_cells: int) -> bool:
        """Change the size of the KV cache; the numbers are as in `Resize`. False: all is as it was, without memory.

        Raises RunnerDied.
        """
        assert self.loaded is not None
        message_id = next(self._ids)
        reply = await self._ask(message_id, Resize(message_id, n_ctx, n_cells))
        assert isinstance(reply, Resized)
        if reply.done:
            self.loaded = msgspec.structs.replace(self.loaded, n_ctx=n_ctx)
        return reply.done

    def cancel(self, message_id: int) -> None:
        """Stop generating an answer that nobody reads any more; does nothing if it has ended."""
        if self._streams.pop(message_id, None) is not None:
            self._send(Cancel(message_id))

    async def ask_tokens(self, message: Tokenize) -> Tokens:
        """The tokens of a text; the message's id is replaced.

        Like all methods below, this raises RunnerDied, and InvalidRequest for a message that is too large.
        """
        message_id = next(self._ids)
        asked = {"client": asking(), "cache_owner": CACHE_OWNER.get()}
        reply = await self._ask(message_id, msgspec.structs.replace(message, id=message_id, **asked))
        assert isinstance(reply, Tokens)
        return reply

    async def tokenize(self, text: str, *, add_special: bool = False) -> list[int]:
        """The token ids of a text, special tokens in it parsed."""
        return array("i", (await self.ask_tokens(Tokenize(0, text, add_special))).tokens).tolist()

    async def count_tokens(self, text: str, *, add_special: bool = False, media: tuple[PlacedFile, ...] = ()) -> int:
        """How many tokens a text has, special tokens in it parsed; a prompt with the rows of its `media`."""
        return (await self.ask_tokens(Tokenize(0, text, add_special, limit=0, media=media))).count

    async def ask_text(self, tokens: Sequence[int]) -> Text:
        """The text of token ids, special tokens written out, and the place of the first number that is no token."""
        message_id = next(self._ids)
        known = [token if 0 <= token < MOST_TOKENS else -1 for token in tokens]
        reply = await self._ask(message_id, Detokenize(message_id, known, asking()))
        assert isinstance(reply, Text)
        return reply

    async def detokenize(self, tokens: Sequence[int]) -> str:
        """The text of token ids, special tokens written out. Numbers that are no token are left out."""
        return (await self.ask_text(tokens)).text

    async def embed(self, message: Embed) -> Embedded:
        """The vectors of texts; the message's id is replaced. Cancelling the caller cancels the work in the child.

        Raises ContextExceeded and RunnerError too.
        """
        reply = await self._compute(message)
        assert isinstance(reply, Embedded)
        return reply

    async def rerank(self, message: Rerank) -> Reranked:
        """The scores of documents; the rest is as with `embed`."""
        reply = await self._compute(message)
        assert isinstance(reply, Reranked)
        return reply

    async def _compute(self, message: Embed | Rerank) -> FromRunner:
        message_id = next(self._ids)
        try:
            return await self._ask(
                message_id,
                msgspec.structs.replace(message, id=message_id, trace_id=REQUEST_ID.get(), client=asking()),
            )
        except asyncio.CancelledError:
            self._send(Cancel(message_id))
            raise

    async def ping(self) -> Stats:
        """Ask the child for a sign of life and its counters."""
        message_id = next(self._ids)
        reply = await self._ask(message_id, Ping(message_id))
        assert isinstance(reply, Report)
        return reply.stats

    async def close(self) -> None:
        """End the child: it exits when its socket closes, and is killed if it does not. Safe to call twice."""
        assert self._transport is not None
        self._transport.abort()  # not `close`, which would wait for a child that reads no more
        await self.exited.wait()

    def kill(self) -> None:
        """SIGKILL for the child and all that it has forked."""
        if not self.exited.is_set():  # afterwards the pid may be another process's
            kill_group(self.pid)

    def data_received(self, data: bytes) -> None:
        """Called by the event loop: take every whole frame out of the buffer."""
        self._heard = True
        self._buffer += data
        try:
            for event in take_events(self._buffer):
                self._receive(event)
        except msgspec.DecodeError:
            self.give_up("it sent what is no message")

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by the event loop: the child has closed its end of the socket, or we have closed ours."""
        self._gone = True
        self._disconnected.set()

    async def _await_exit(self) -> None:
        """Wait for the end of the process, kill what is left of its group, and fail all requests in it.

        The process may end or its socket may close, and each may come alone: a child can close its socket and live on,
        and what it has forked can keep the socket open when the child is dead.
        """
        assert self._process is not None
        assert self._transport is not None
        ended = asyncio.create_task(self._process.wait())
        closed = asyncio.create_task(self._disconnected.wait())
        await asyncio.wait((ended, closed), return_when=asyncio.FIRST_COMPLETED)
        self._gone = True
        if self._watchdog is not None:
            self._watchdog.cancel()
        await asyncio.wait((ended,), timeout=EXIT_GRACE)
        if not ended.done():  # the kill is ours and explains nothing
            self._last_words = self._last_words or "it closed its connection and did not end"
        self.kill()
        await asyncio.wait((ended, closed), timeout=EXIT_GRACE)  # its last messages are still to be read
        self._transport.abort()
        code = self._process.returncode
        self._signal = -(code or 0)
        struck = self._signal == signal.SIGKILL and OUT_OF_MEMORY_KILLS.struck()
        self.ending = self._last_words if code is None else how_it_ended(code, self._last_words, out_of_memory=struck)
        self.on_end()
        self._fail_all(self.ending or "it does not end")
        values = {"pid": self.pid, "model": self.model or None, "ending": self.ending or None}
        log.debug("process ended", extra=fields(**values, request_id=None))
        await asyncio.wait((ended, closed))  # a process that waits for a disk cannot be killed
        self._close_states()
        self.exited.set()

    def _close_states(self) -> None:
        if self._states_sock is not None:
            self._states_sock.close()
            self._states_sock = None

    def give_up(self, reason: str) -> None:
        """Kill the child for a `reason`. All requests fail as soon as it has ended, or soon even if it does not."""
        assert self._transport is not None
        self._gone = True
        self._last_words = reason
        self.kill()
        self._transport.abort()

    def _fail_all(self, detail: str) -> None:
        self._failure = detail
        for stream in self._streams.values():
            stream.finish(self._died())
        self._streams.clear()
        for reply in self._replies.values():
            if not reply.done():
                reply.set_exception(self._died())
        # The system kills where memory is short, and does not say so.
        killed = self._signal == signal.SIGKILL and not self._last_words
        self._settle(died_loading(detail, self._signal, memory=killed or self._short_of_memory))
        self.greeted.set()

    def _died(self) -> RunnerDied:
        killed = self.killed and not self._last_words  # else we did it, because it hung
        return RunnerDied(self._failure, crashed=self._signal in CRASHES, killed=killed)

    async def _watch(self) -> None:
        """Kill the child if it hangs: it is stopped, or answers no ping, or is busy but finishes no forward pass."""
        dog = Watchdog(self.pid, self._patience)
        ping: asyncio.Future[FromRunner] | None = None
        stuck = rest = 0
        while stuck <= STUCK_FACTOR * LOOKS:
            await asyncio.sleep(dog.interval)
            heard, self._heard = self._heard, False
            if dog.look(heard=heard, asked=ping is not None):
                break
            if ping is not None and ping.done():
                ping = None
            rest = 0 if self._streams or self._replies else rest + 1
            stuck = 0 if self._progress or rest else stuck + 1
            self._progress = False
            if self.loaded is not None and ping is None and (rest % LOOKS == 0 if rest else not heard):
                ping = self._send_ping()
        self.hung = True
        self.give_up(f"it gave no sign of life for {self._patience:g} s")

    def _send_ping(self) -> asyncio.Future[FromRunner]:
        message_id = next(self._ids)
        reply: asyncio.Future[FromRunner] = asyncio.get_running_loop().create_future()
        reply.add_done_callback(lambda done: done.cancelled() or done.exception())  # nobody waits for it
        self._replies[message_id] = reply
        self._send(Ping(message_id))
        return reply

    def _receive(self, event: FromRunner) -> None:
        self._progress |= not isinstance(event, Report | LogLine)
        match event:
            case Chunk(id=message_id):
                if stream := self._streams.get(message_id):
                    stream.add(event)
            case NeedsRoom(id=message_id, tokens=tokens):
                if stream := self._streams.get(message_id):
                    stream.needs_room(tokens)
            case QueuePlace(id=message_id, place=place):
                if stream := self._streams.get(message_id):
                    stream.progress = Queued(place)
            case PromptProgress(id=message_id):
                if stream := self._streams.get(message_id):
                    stream.progress = PromptRead(event.processed, event.total, event.cached, event.ns)
            case Done(id=message_id):
                if stream := self._streams.pop(message_id, None):
                    stream.finish(event)
                self.answered = True
            case Failed(id=message_id) if message_id in self._streams:
                self._streams.pop(message_id).finish(_error(event))
            case (
                Tokens(id=message_id)
                | Text(id=message_id)
                | Resized(id=message_id)
                | StatesWritten(id=message_id)
                | Embedded(id=message_id)
                | Reranked(id=message_id)
                | Failed(id=message_id)
            ):
                self.answered |= isinstance(event, Embedded | Reranked)
                if (reply := self._replies.pop(message_id, None)) and not reply.done():
                    reply.set_result(event)
            case Report(id=message_id, stats=stats):
                self._progress |= not stats.busy or stats.steps != self.stats.steps
                self.stats = stats
                if (reply := self._replies.pop(message_id, None)) and not reply.done():
                    reply.set_result(event)
            case Hello(copied=copied, holds=holds, lacks=lacks):
                self.copied_types = frozenset(copied)
                self.containment = Containment(holds, lacks)
                self.greeted.set()
            case Loading(progress=progress):
                self.weights_loaded = progress
                if self._stall is not None and self._stall.when() is not None:
                    self._resident = devices.resident_bytes(self.pid)
                    self._stall.reschedule(asyncio.get_running_loop().time() + self._stall_timeout)
            case Loaded():
                self._settle(event)
            case LoadRefused(reason=reason, memory=memory):
                self._settle(OutOfMemory(f"{NO_MEMORY}: {reason}") if memory else LoadFailed(reason))
            case Crashed(detail=detail, memory=memory):
                self._last_words = detail
                self._short_of_memory = memory
            case LogLine():
                self._log(event)

    def _log(self, line: LogLine) -> None:
        """Write a child's record without checking our level: the child has filtered by its own."""
        values = {**line.fields, "model": self.model or None, "pid": self.pid}
        values["request_id"] = values.pop("request_id", None)  # the last one, as in all lines
        record = logging.makeLogRecord(
            {
                "name": line.logger,
                "levelno": line.level,
                "levelname": logging.getLevelName(line.level),
                "msg": line.message,
                "created": line.created,
                "exc_text": line.exception or None,
                "fields": values,
            }
        )
        logging.getLogger(line.logger).handle(record)

    def _settle(self, outcome: Loaded | LoadFailed) -> None:
        if self._load is None or self._load.done():
            return
        if isinstance(outcome, Loaded):
            self._load.set_result(outcome)
        else:
            self._load.set_exception(outcome)

    async def _ask(self, message_id: int, message: ToRunner) -> FromRunner:
        if self._failure:
            raise self._died()
        reply: asyncio.Future[FromRunner] = asyncio.get_running_loop().create_future()
        self._replies[message_id] = reply
        try:
            self._send(message)
            outcome = await reply
        finally:
            self._replies.pop(message_id, None)
        if isinstance(outcome, Failed):
            raise _error(outcome)
        return outcome

    def _send(self, message: ToRunner) -> None:
        """Write one message; dropped if the socket is closed. Raises InvalidRequest if it exceeds MAX_FRAME."""
        if self._transport is not None and not self._transport.is_closing():
            frame = encode_frame(message)
            if len(frame) > FRAME_HEADER.size + MAX_FRAME:
                raise InvalidRequest("the request is too large")
            self._transport.write(frame)


def _error(event: Failed) -> EngineError:
    if event.kind == "context":
        return ContextExceeded(event.detail, event.tokens, event.limit)
    return InvalidRequest(event.detail, event.field) if event.kind == "request" else RunnerError(event.detail)
