"""One child process: start it, talk to it, end it. Lives on the server's event loop; nothing here blocks."""

from __future__ import annotations

import asyncio
import itertools
import os
import socket
import sys
from collections.abc import Mapping

from engine.errors import ContextExceeded, EngineError, InvalidRequest, LoadFailed, RunnerDied, RunnerError
from engine.messages import (
    FRAME_HEADER,
    Cancel,
    Chunk,
    Detokenize,
    Done,
    Failed,
    FromRunner,
    Hello,
    Load,
    Loaded,
    Loading,
    Ping,
    Pong,
    Submit,
    Text,
    Tokenize,
    Tokens,
    ToRunner,
    encode_frame,
    from_runner_decoder,
)
from engine.messages import LoadFailed as LoadRefused

EXIT_GRACE = 1.0  # seconds between closing the socket and SIGKILL
PASSED_ON = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH", "PYTHONPATH", "VIRTUAL_ENV")
PASSED_PREFIXES = ("CUDA_", "NVIDIA_", "GGML_", "HIP_", "ROCR_", "HSA_", "OMP_", "GOMP_", "PRONK_RUNNER_")


class Answer:
    """The text of one request as it arrives. Created by `RunnerProcess.submit`, read by one task."""

    def __init__(self) -> None:
        self._text: list[str] = []
        self._end: Done | EngineError | None = None
        self._waiter: asyncio.Future[None] | None = None

    async def read(self) -> tuple[str, Done | None]:
        """All text that has piled up since the last call, and the closing message when there is no more.

        Waits for something to arrive. Raises RunnerDied, RunnerError, InvalidRequest or ContextExceeded.
        """
        if not self._text and self._end is None:
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        text = "".join(self._text)
        self._text.clear()
        if isinstance(self._end, EngineError):
            raise self._end
        return text, self._end

    @property
    def ended(self) -> bool:
        """Whether the runner has nothing more to do for this request."""
        return self._end is not None

    def add(self, text: str) -> None:
        """More text has come."""
        self._text.append(text)
        self._wake()

    def finish(self, end: Done | EngineError) -> None:
        """The request has ended, well or badly; the first end counts."""
        if self._end is None:
            self._end = end
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class RunnerProcess(asyncio.Protocol):
    """A child process and its socket.

    `spawn` returns as soon as it is started; `load` waits for its library and then for its model. When it ends,
    however that comes, every request in it fails with RunnerDied and `exited` is set.
    """

    def __init__(self) -> None:
        self.exited = asyncio.Event()
        self.loaded: Loaded | None = None
        self._ids = itertools.count(1)
        self._answers: dict[int, Answer] = {}
        self._replies: dict[int, asyncio.Future[FromRunner]] = {}
        self._load: asyncio.Future[Loaded] | None = None
        self._progress = asyncio.Event()
        self._buffer = bytearray()
        self._transport: asyncio.Transport | None = None
        self._process: asyncio.subprocess.Process | None = None

    @classmethod
    async def spawn(cls, environ: Mapping[str, str]) -> RunnerProcess:
        """Start a child. `environ` is the server's environment, of which only what the child needs is passed on."""
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        self = cls()
        try:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                *("-m", "engine.runner", str(theirs.fileno())),
                pass_fds=[theirs.fileno()],
                env=child_environment(environ),
                stdin=asyncio.subprocess.DEVNULL,
                start_new_session=True,
            )
        finally:
            theirs.close()
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_connection(lambda: self, sock=ours)
        self._transport = transport
        return self

    @property
    def pid(self) -> int:
        """The child's process id."""
        assert self._process is not None
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the child still listens."""
        return not self.exited.is_set()

    async def load(self, spec: Load, stall_timeout: float) -> Loaded:
        """Load the model. Raises LoadFailed: refused, died, or no progress for `stall_timeout` seconds."""
        self._load = asyncio.get_running_loop().create_future()
        self._send(spec)
        while True:
            self._progress.clear()
            progress = asyncio.ensure_future(self._progress.wait())
            await asyncio.wait({self._load, progress}, timeout=stall_timeout, return_when=asyncio.FIRST_COMPLETED)
            stalled = not progress.done()
            progress.cancel()
            if self._load.done():
                self.loaded = self._load.result()
                return self.loaded
            if stalled:
                raise LoadFailed("timed out waiting for llama-server to start - the load made no progress")

    def submit(self, build: Submit) -> tuple[int, Answer]:
        """Hand over a prompt (its `id` is replaced by ours); returns the id for `cancel` and the answer to read."""
        id, answer = next(self._ids), Answer()
        if not self.alive:
            answer.finish(RunnerDied())
            return id, answer
        self._answers[id] = answer
        fields = {name: getattr(build, name) for name in build.__struct_fields__}
        self._send(Submit(**(fields | {"id": id})))
        return id, answer

    def cancel(self, id: int) -> None:
        """Nobody reads this answer any more; does nothing if it has ended."""
        if self._answers.pop(id, None) is not None and self.alive:
            self._send(Cancel(id))

    async def tokenize(self, text: str, *, add_special: bool = False) -> list[int]:
        """The text's token ids; special tokens in it are parsed."""
        id = next(self._ids)
        reply = await self._ask(id, Tokenize(id, text, add_special))
        assert isinstance(reply, Tokens)
        return reply.tokens

    async def detokenize(self, tokens: list[int]) -> str:
        """The text of token ids, special tokens written out."""
        id = next(self._ids)
        reply = await self._ask(id, Detokenize(id, tokens))
        assert isinstance(reply, Text)
        return reply.text

    async def ping(self) -> Pong:
        """Ask for a sign of life and the runner's counters."""
        id = next(self._ids)
        reply = await self._ask(id, Ping(id))
        assert isinstance(reply, Pong)
        return reply

    async def close(self) -> None:
        """End the child: it goes when its socket closes, and is killed if it does not."""
        if self._transport is not None:
            self._transport.close()
        assert self._process is not None
        try:
            await asyncio.wait_for(self._process.wait(), EXIT_GRACE)
        except TimeoutError:
            self.kill()
            await self._process.wait()

    def kill(self) -> None:
        """SIGKILL, for a child that hangs."""
        assert self._process is not None
        if self._process.returncode is None:
            self._process.kill()

    def data_received(self, data: bytes) -> None:
        """Called by the event loop: take every whole frame out of the buffer."""
        buffer = self._buffer
        buffer += data
        at = 0
        while len(buffer) - at >= FRAME_HEADER.size:
            (size,) = FRAME_HEADER.unpack_from(buffer, at)
            end = at + FRAME_HEADER.size + size
            if len(buffer) < end:
                break
            for event in from_runner_decoder.decode(bytes(buffer[at + FRAME_HEADER.size : end])):
                self._receive(event)
            at = end
        del buffer[:at]

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by the event loop: the child has gone, or we closed the socket."""
        self.exited.set()
        for answer in self._answers.values():
            answer.finish(RunnerDied())
        self._answers.clear()
        for reply in self._replies.values():
            if not reply.done():
                reply.set_exception(RunnerDied())
        if self._load is not None and not self._load.done():
            self._load.set_exception(LoadFailed("llama-server process has terminated: the runner ended while loading"))

    def _receive(self, event: FromRunner) -> None:
        match event:
            case Chunk(id=id, text=text):
                if answer := self._answers.get(id):
                    answer.add(text)
            case Done(id=id):
                if answer := self._answers.pop(id, None):
                    answer.finish(event)
            case Failed(id=id):
                if answer := self._answers.pop(id, None):
                    answer.finish(_error(event))
            case Tokens(id=id) | Text(id=id) | Pong(id=id):
                if (reply := self._replies.pop(id, None)) and not reply.done():
                    reply.set_result(event)
            case Loading():
                self._progress.set()
            case Loaded():
                self._settle(event)
            case LoadRefused(reason=reason):
                self._settle(LoadFailed(reason))
            case Hello():
                self._progress.set()

    def _settle(self, outcome: Loaded | LoadFailed) -> None:
        if self._load is None or self._load.done():
            return
        if isinstance(outcome, Loaded):
            self._load.set_result(outcome)
        else:
            self._load.set_exception(outcome)

    async def _ask(self, id: int, message: ToRunner) -> FromRunner:
        if not self.alive:
            raise RunnerDied
        reply: asyncio.Future[FromRunner] = asyncio.get_running_loop().create_future()
        self._replies[id] = reply
        self._send(message)
        try:
            return await reply
        finally:
            self._replies.pop(id, None)

    def _send(self, message: ToRunner) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(encode_frame(message))


def child_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """What a child needs of the environment: no keys, no proxies, no credentials."""
    env = {k: v for k, v in environ.items() if k in PASSED_ON or k.startswith(PASSED_PREFIXES)}
    # llama.cpp's threads wait for each other some hundred times per pass. Spinning for long is ruinous as soon as
    # anybody else needs a core: a pass then lasts as long as the scheduler's time slices. Never spinning costs half
    # of the speed on idle cores. This many rounds are some ten microseconds: as fast as the one, as safe as the other.
    env.setdefault("GOMP_SPINCOUNT", "1000")
    env["PYTHONPATH"] = os.pathsep.join(p for p in (*_own_path(), env.get("PYTHONPATH", "")) if p)
    return env


def _own_path() -> tuple[str, ...]:
    return (os.path.dirname(os.path.dirname(os.path.abspath(__file__))),)


def _error(event: Failed) -> EngineError:
    if event.kind == "context":
        return ContextExceeded(event.detail)
    if event.kind == "request":
        return InvalidRequest(event.detail)
    return RunnerError(event.detail)
