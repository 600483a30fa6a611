"""One child process: start it, talk to it, end it. Lives on the server's event loop; nothing here blocks."""

from __future__ import annotations

import asyncio
import itertools
import logging
import math
from array import array
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

import msgspec

from engine.errors import (
    ContextExceeded,
    EngineError,
    InvalidRequest,
    LoadFailed,
    RunnerDied,
    RunnerError,
)
from engine.loading.crashes import died_loading, how_it_ended
from engine.loading.spawn import start_child
from engine.loading.token_stream import TokenStream
from engine.messages import (
    FRAME_HEADER,
    MAX_FRAME,
    Cancel,
    Chunk,
    Crashed,
    Detokenize,
    Done,
    Embed,
    Embedded,
    Failed,
    FromRunner,
    Hello,
    Loaded,
    Loading,
    LoadModel,
    LoadRefused,
    LogLine,
    Ping,
    Pong,
    Submit,
    Text,
    Tokenize,
    Tokens,
    ToRunner,
    encode_frame,
    take_events,
)
from modelfile.crashes import CRASHES, name_of
from modelfile.operating_system import kill_group
from registry.logfields import REQUEST_ID, fields

EXIT_GRACE = 1.0  # seconds between the end of the conversation and SIGKILL
PATIENCE = 30.0  # seconds without a sign of life after which a child is taken to hang
PINGS_PER_PATIENCE = 3
MOST_TOKENS = 1 << 31  # of any vocabulary
STUCK_FACTOR = 10  # times the patience that one forward pass may take
log = logging.getLogger("pronk.engine")
_ERRORS: dict[str, Callable[[str], EngineError]] = {"context": ContextExceeded, "request": InvalidRequest}


class RunnerProcess(asyncio.Protocol):
    """A child process and its socket.

    `spawn` returns as soon as it is started; `load` waits for its library and then for its model. When it ends,
    however that comes, every request in it fails with RunnerDied and `exited` is set; by then it has been reaped and
    what it had forked is gone too.
    `greeted` is set once its library is imported (or it has ended before): then `copied_types` says which types of
    weights that library copies. Its log becomes ours, with its pid and `model`, the name under which it was loaded.
    """

    def __init__(self, patience: float) -> None:
        self.exited = asyncio.Event()
        self.greeted = asyncio.Event()
        self.copied_types: frozenset[str] = frozenset()
        self.loaded: Loaded | None = None
        self.model = ""
        self._patience = patience
        self._ids = itertools.count(1)
        self._answers: dict[int, TokenStream] = {}
        self._replies: dict[int, asyncio.Future[FromRunner]] = {}
        self._load: asyncio.Future[Loaded] | None = None
        self._stall: asyncio.Timeout | None = None
        self._stall_timeout = math.inf
        self.ending = ""  # how it ended, once it has
        self._signal = 0
        self.answered = False  # whether it has done any request to its end
        self._last_words = ""
        self._told = ""  # why requests fail, once they do
        self._gone = False
        self._disconnected = asyncio.Event()
        self._buffer = bytearray()
        self._transport: asyncio.Transport | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._watchdog: asyncio.Task[None] | None = None
        self._burial: asyncio.Task[None] | None = None

    @classmethod
    async def spawn(cls, environ: Mapping[str, str], patience: float = PATIENCE) -> RunnerProcess:
        """Start a child. `environ` is the server's environment, of which only what the child needs is passed on.

        Once loaded, a child that gives no sign of life for `patience` seconds is killed.
        """
        self = cls(patience)
        self._process, ours = await start_child("engine.runner", environ)
        transport, _ = await asyncio.get_running_loop().create_connection(lambda: self, sock=ours)
        self._transport = transport
        log.debug("process started", extra=fields(pid=self.pid))
        self._burial = asyncio.create_task(self._bury())
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
    def cause(self) -> str:
        """The signal that a defect has killed it with, in words; empty if it lives or ended otherwise."""
        return name_of(self._signal) if self._signal in CRASHES else ""

    async def load(self, spec: LoadModel, stall_timeout: float) -> Loaded:
        """Load the model. Raises LoadFailed: refused, died, or no progress for `stall_timeout` seconds (inf: wait)."""
        if self._gone:
            with suppress(TimeoutError):
                await asyncio.wait_for(self.exited.wait(), 2 * EXIT_GRACE)
            raise died_loading(f"the process had ended before: {self.ending}", self._signal, given=False)
        self._load = asyncio.get_running_loop().create_future()
        self._stall_timeout = stall_timeout
        self._send(spec)
        try:
            async with asyncio.timeout(None if math.isinf(stall_timeout) else stall_timeout) as self._stall:
                self.loaded = await self._load
        except TimeoutError:
            raise LoadFailed("timed out waiting for llama-server to start - the load made no progress") from None
        finally:
            self._load = self._stall = None
        self._watchdog = asyncio.create_task(self._watch())
        return self.loaded

    def submit(self, build: Submit) -> tuple[int, TokenStream]:
        """Hand over a prompt (its `id` is replaced by ours); returns the id for `cancel` and the answer to read."""
        id, answer = next(self._ids), TokenStream()
        if self._told:
            answer.finish(self._death())
            return id, answer
        self._answers[id] = answer  # that of one that has just gone ends as soon as its cause is known
        try:
            self._send(msgspec.structs.replace(build, id=id, trace_id=REQUEST_ID.get()))
        except InvalidRequest as error:
            self._answers.pop(id).finish(error)
        return id, answer

    def cancel(self, id: int) -> None:
        """Nobody reads this answer any more; does nothing if it has ended."""
        if self._answers.pop(id, None) is not None:
            self._send(Cancel(id))

    async def tokenize(self, text: str, *, add_special: bool = False) -> list[int]:
        """The text's token ids; special tokens in it are parsed.

        Raises RunnerDied, and InvalidRequest for what is too large to be sent, as all that follow.
        """
        id = next(self._ids)
        reply = await self._ask(id, Tokenize(id, text, add_special))
        assert isinstance(reply, Tokens)
        return array("i", reply.tokens).tolist()

    async def count_tokens(self, text: str) -> int:
        """How many tokens a text has; special tokens in it are parsed."""
        id = next(self._ids)
        reply = await self._ask(id, Tokenize(id, text, only_count=True))
        assert isinstance(reply, Tokens)
        return reply.count

    async def detokenize(self, tokens: Sequence[int]) -> str:
        """The text of token ids, special tokens written out. What is no token is left out."""
        id = next(self._ids)
        reply = await self._ask(id, Detokenize(id, [token for token in tokens if 0 <= token < MOST_TOKENS]))
        assert isinstance(reply, Text)
        return reply.text

    async def embed(self, build: Embed) -> Embedded:
        """The vectors of texts (the message's `id` is replaced by ours); a caller that is cancelled gives them up.

        Raises ContextExceeded, InvalidRequest or RunnerError too.
        """
        id = next(self._ids)
        try:
            reply = await self._ask(id, msgspec.structs.replace(build, id=id, trace_id=REQUEST_ID.get()))
        except asyncio.CancelledError:
            self._send(Cancel(id))
            raise
        assert isinstance(reply, Embedded)
        return reply

    async def ping(self) -> Pong:
        """Ask for a sign of life and the runner's counters."""
        id = next(self._ids)
        reply = await self._ask(id, Ping(id))
        assert isinstance(reply, Pong)
        return reply

    async def close(self) -> None:
        """End the child: it goes when its socket closes, and is killed if it does not. Safe to call twice."""
        assert self._transport is not None
        self._transport.abort()  # a child that reads no more must not keep us from closing
        await self.exited.wait()

    def kill(self) -> None:
        """SIGKILL for a child that hangs, and for whatever it has forked."""
        if not self.exited.is_set():  # afterwards the number may be somebody else's
            kill_group(self.pid)

    def data_received(self, data: bytes) -> None:
        """Called by the event loop: take every whole frame out of the buffer."""
        self._buffer += data
        try:
            for event in take_events(self._buffer):
                self._receive(event)
        except msgspec.DecodeError:
            self._give_up("it sent what is no message")

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by the event loop: the child has gone, or we closed the socket."""
        self._gone = True
        self._disconnected.set()

    async def _bury(self) -> None:
        """Wait for the end of the process, see to it that nothing is left, and tell everybody who waits for it.

        The end shows in two ways, and each may come alone: a child can close its socket and live on, and what it has
        forked can keep its socket open when it is dead.
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
        if not ended.done():  # that it is killed is our own doing
            self._last_words = self._last_words or "it closed its connection and did not end"
        self.kill()
        await asyncio.wait((ended, closed), timeout=EXIT_GRACE)  # what it had said is still to be read
        self._transport.abort()
        code = self._process.returncode
        self.ending = self._last_words if code is None else how_it_ended(code, self._last_words)
        self._signal = -(code or 0)
        self._fail_all(self.ending or "it does not end")
        values = {"pid": self.pid, "model": self.model or None, "ending": self.ending or None}
        log.debug("process ended", extra=fields(**values, request_id=None))
        await asyncio.wait((ended, closed))  # one that waits for a disk cannot even be killed
        self.exited.set()

    def _give_up(self, reason: str) -> None:
        """The child is of no use any more: tell everybody at once, however long its end takes."""
        self._gone = True
        self._last_words = reason
        self._fail_all(reason)
        self.kill()

    def _fail_all(self, detail: str) -> None:
        self._told = detail
        for answer in self._answers.values():
            answer.finish(self._death())
        self._answers.clear()
        for reply in self._replies.values():
            if not reply.done():
                reply.set_exception(self._death())
        self._settle(died_loading(detail, self._signal))
        self.greeted.set()

    def _death(self) -> RunnerDied:
        return RunnerDied(self._told, crashed=self._signal in CRASHES)

    async def _watch(self) -> None:
        """Kill the child when it does not answer a ping, or is busy without ever finishing a pass."""
        steps, since = -1, 0
        while True:
            await asyncio.sleep(self._patience / PINGS_PER_PATIENCE)
            try:
                pong = await asyncio.wait_for(self.ping(), self._patience)
            except TimeoutError:
                break
            except RunnerDied:
                return
            since = since + 1 if pong.busy and pong.steps == steps else 0
            steps = pong.steps
            if since > STUCK_FACTOR * PINGS_PER_PATIENCE:
                break
        self._give_up("it gave no sign of life")

    def _receive(self, event: FromRunner) -> None:
        match event:
            case Chunk(id=id, text=text):
                if answer := self._answers.get(id):
                    answer.add(text)
            case Done(id=id):
                if answer := self._answers.pop(id, None):
                    answer.finish(event)
                self.answered = True
            case Failed(id=id) if id in self._answers:
                self._answers.pop(id).finish(_error(event))
            case Tokens(id=id) | Text(id=id) | Pong(id=id) | Embedded(id=id) | Failed(id=id):
                self.answered |= isinstance(event, Embedded)
                if (reply := self._replies.pop(id, None)) and not reply.done():
                    reply.set_result(event)
            case Hello(copied=copied):
                self.copied_types = frozenset(copied)
                self.greeted.set()
            case Loading():
                if self._stall is not None and self._stall.when() is not None:
                    self._stall.reschedule(asyncio.get_running_loop().time() + self._stall_timeout)
            case Loaded():
                self._settle(event)
            case LoadRefused(reason=reason):
                self._settle(LoadFailed(reason))
            case Crashed(detail=detail):
                self._last_words = detail
            case LogLine():
                self._log(event)

    def _log(self, line: LogLine) -> None:
        """Write a record of the child, whatever level is logged here: the child has a level of its own."""
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

    async def _ask(self, id: int, message: ToRunner) -> FromRunner:
        if self._told:
            raise self._death()
        reply: asyncio.Future[FromRunner] = asyncio.get_running_loop().create_future()
        self._replies[id] = reply
        try:
            self._send(message)
            found = await reply
        finally:
            self._replies.pop(id, None)
        if isinstance(found, Failed):
            raise _error(found)
        return found

    def _send(self, message: ToRunner) -> None:
        """Write one message. Raises InvalidRequest if it is too large for any peer to read."""
        if self._transport is not None and not self._transport.is_closing():
            frame = encode_frame(message)
            if len(frame) > FRAME_HEADER.size + MAX_FRAME:
                raise InvalidRequest("the request is too large")
            self._transport.write(frame)


def _error(event: Failed) -> EngineError:
    return _ERRORS.get(event.kind, RunnerError)(event.detail)
