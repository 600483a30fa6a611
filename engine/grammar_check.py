"""Validates grammars in a child process before they reach a model: a hostile one may crash or hang the compiler."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import itertools
import logging
import signal
import sys
import time
from collections.abc import Mapping

import msgspec

from engine.errors import EngineError, EngineStopped, InvalidRequest
from engine.fair_queue import CLIENT, FairQueue
from engine.messages import FRAME_HEADER, Grammar, GrammarVerdict, ValidateGrammar
from engine.spawn import child_environment
from modelfile.operating_system import is_stopped, kill_group
from modelfile.watchdog import PATIENCE, killed_if_stopped
from registry.logfields import fields

REMEMBERED = 4096  # verdicts; clients send the same grammars again and again
TOO_MUCH = "it is too complex"
QUICK, SLOW = 0.1, 1.2  # seconds of CPU time: a grammar that needs more than QUICK is queued again, as slow
WALL = 10  # wall-clock limit of a verdict, as a multiple of its CPU time; then the process is replaced
LEAST_WALL = 3.0  # seconds; a process that only waits for a busy CPU is none that hangs
ATTEMPTS = 3  # at a verdict: the process may be replaced meanwhile, because of another grammar
EXIT_GRACE = 1.0  # seconds from the end of its input until the process is killed
RETRY_AFTER = 300.0  # seconds until a too complex grammar is tried again: memory may have been short
RETRY_SLOW_AFTER = 10.0  # the same for one that took too long: the CPU may have been busy
log = logging.getLogger("pronk.engine")
_ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}  # more threads reserve memory beyond its limit


class GrammarValidator:
    """Validates grammars; clients take turns. Belongs to the server's event loop; `close` ends its process.

    A grammar is tried for QUICK seconds of CPU time; if they do not suffice, for SLOW ones in a queue of its own, so
    that slow grammars do not hold up quick ones. Verdicts are cached. The process starts with `warm` or the first check
    and is replaced if it dies, or if a signal stops it for `watchdog` seconds.
    """

    def __init__(self, environ: Mapping[str, str], watchdog: float = PATIENCE) -> None:
        self._environ = environ
        self._watchdog = watchdog
        self._checker: _Checker | None = None
        self._starting = asyncio.Lock()
        self._warming: asyncio.Task[None] | None = None
        self._quick = FairQueue(2, 256)
        self._slow = FairQueue(1, 32)
        self._verdicts: dict[bytes, tuple[str, float]] = {}  # reason, and `time.monotonic()` until which it holds
        self._validating: dict[bytes, asyncio.Task[str]] = {}
        self._closed = False

    def warm(self) -> None:
        """Start the process, so that the first check need not wait for it."""
        if self._checker is None and self._warming is None and not self._closed:
            self._warming = asyncio.create_task(self._warm())

    async def _warm(self) -> None:
        with contextlib.suppress(
            EngineError, ConnectionError
        ):  # the first check starts it again and says what is wrong
            await self._running()

    async def check(self, grammar: Grammar, what: str, field: str = "") -> None:
        """Raise InvalidRequest ("`what`: reason") about `field` if the grammar cannot be used.

        Raises ServerBusy and EngineStopped, and EngineError if the process does not start.
        """
        key = hashlib.sha256(msgspec.msgpack.encode(grammar)).digest()
        reason, until = self._verdicts.get(key, ("", 0.0))
        if until <= time.monotonic():
            started = time.perf_counter()
            reason = await self._validated(key, grammar)
            milliseconds = (time.perf_counter() - started) * 1e3
            log.debug("grammar checked", extra=fields(grammar=key.hex()[:12], usable=not reason, ms=milliseconds))
        if reason:
            raise InvalidRequest(f"{what}: {reason}", field)

    async def close(self) -> None:
        """End the process; waiting and later checks raise EngineStopped."""
        self._closed = True
        tasks = [*self._validating.values(), *([self._warming] if self._warming is not None else [])]
        for task in tasks:
            task.cancel()  # also one that starts a process: that is killed
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._checker is not None:
            await self._checker.close()

    async def _validated(self, key: bytes, grammar: Grammar) -> str:
        """Why a grammar cannot be used, "" if it can. Requests for the same grammar share one validation."""
        task = self._validating.get(key)
        if task is None:
            task = self._validating[key] = asyncio.create_task(self._validate(key, grammar))
            task.add_done_callback(lambda done: self._finished(key, done))
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if self._closed:
                raise EngineStopped from None
            raise

    def _finished(self, key: bytes, task: asyncio.Task[str]) -> None:
        del self._validating[key]
        if not task.cancelled():
            task.exception()  # mark it as retrieved: perhaps no request waits any more

    async def _validate(self, key: bytes, grammar: Grammar) -> str:
        client, size = CLIENT.get(), len(grammar.rules)
        async with self._quick.place(client, size):
            verdict = await self._ask(grammar, QUICK)
        if not verdict.in_time:
            log.debug("grammar takes long: checked again at length", extra=fields(grammar=key.hex()[:12]))
            async with self._slow.place(client, size):
                verdict = await self._ask(grammar, SLOW)
        reason = verdict.reason if verdict.in_time else TOO_MUCH
        while len(self._verdicts) >= REMEMBERED:
            del self._verdicts[next(iter(self._verdicts))]
        holds = RETRY_SLOW_AFTER if not verdict.in_time else RETRY_AFTER if reason == TOO_MUCH else float("inf")
        self._verdicts[key] = reason, time.monotonic() + holds
        return reason

    async def _ask(self, grammar: Grammar, seconds: float) -> GrammarVerdict:
        """The verdict of the process, which tries the grammar for at most `seconds` of CPU time."""
        for _ in range(ATTEMPTS):
            with contextlib.suppress(ConnectionError):
                return await self._ask_once(grammar, seconds)
        return GrammarVerdict(0, False, "")

    async def _ask_once(self, grammar: Grammar, seconds: float) -> GrammarVerdict:
        """The same. Raises ConnectionError if the process ends meanwhile."""
        if self._closed:
            raise EngineStopped
        return await (await self._running()).verdict(grammar, seconds)

    async def _running(self) -> _Checker:
        async with self._starting:
            if self._checker is not None and self._checker.ended:
                await self._checker.close()
                self._checker = None
            if self._checker is None:
                self._checker = await _Checker.start(self._environ, self._watchdog)
            return self._checker


class _Checker:
    """One process, from its start to its end; one that is replaced has nothing in common with the next."""

    def __init__(self, process: asyncio.subprocess.Process, watchdog: float) -> None:
        self.process = process
        self._watchdog = watchdog
        self._asked: dict[int, asyncio.Future[GrammarVerdict]] = {}
        self._ids = itertools.count(1)
        self._reader: asyncio.Task[None] | None = None

    @classmethod
    async def start(cls, environ: Mapping[str, str], watchdog: float) -> _Checker:
        """Start one and wait until it can check. Raises EngineError, and ConnectionError if it was killed meanwhile."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "engine.runner.grammar_check"),
            env=child_environment(environ) | _ONE_THREAD,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        self = cls(process, watchdog)
        try:
            async with self._watched():
                await _read(process)
        except asyncio.IncompleteReadError:
            await self.close()
            if process.returncode == -signal.SIGKILL:  # because it was stopped, or memory was short: try again
                raise ConnectionResetError from None
            raise EngineError("grammar checker failed to start") from None
        except asyncio.CancelledError:
            kill_group(process.pid)
            await self.close()
            raise
        self._reader = asyncio.create_task(self._read_verdicts())
        return self

    @property
    def ended(self) -> bool:
        """Whether it checks nothing more."""
        return self.process.returncode is not None or self._reader is None or self._reader.done()

    async def verdict(self, grammar: Grammar, seconds: float) -> GrammarVerdict:
        """Its verdict. Raises ConnectionError if it ends meanwhile; one that gives none in time is ended."""
        message_id = next(self._ids)
        answer: asyncio.Future[GrammarVerdict] = asyncio.get_running_loop().create_future()
        self._asked[message_id] = answer
        try:
            body = msgspec.msgpack.encode(ValidateGrammar(message_id, seconds, grammar))
            assert self.process.stdin is not None
            self.process.stdin.write(FRAME_HEADER.pack(len(body)) + body)
            async with asyncio.timeout(max(seconds * WALL, LEAST_WALL)):
                return await answer
        except TimeoutError:
            await self.close()
            return GrammarVerdict(message_id, False, "")
        finally:
            self._asked.pop(message_id, None)

    async def close(self) -> None:
        """End the process: what it was asked raises ConnectionError. Safe to call twice."""
        assert self.process.stdin is not None
        self.process.stdin.close()  # the process then kills its trials and exits
        try:
            await asyncio.wait_for(self.process.wait(), 0 if is_stopped(self.process.pid) else EXIT_GRACE)
        except TimeoutError:
            kill_group(self.process.pid)
            await self.process.wait()
        if self._reader is not None:
            await self._reader

    def _watched(self) -> contextlib.AbstractAsyncContextManager[None]:
        pid = self.process.pid
        return killed_if_stopped(pid, self._watchdog, lambda: kill_group(pid))

    async def _read_verdicts(self) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError):
            async with self._watched():
                while True:
                    verdict = await _read(self.process)
                    answer = self._asked.get(verdict.id)
                    if answer is not None and not answer.done():
                        answer.set_result(verdict)
        for answer in self._asked.values():
            if not answer.done():
                answer.set_exception(ConnectionResetError())


async def _read(process: asyncio.subprocess.Process) -> GrammarVerdict:
    assert process.stdout is not None
    (size,) = FRAME_HEADER.unpack(await process.stdout.readexactly(FRAME_HEADER.size))
    return msgspec.msgpack.decode(await process.stdout.readexactly(size), type=GrammarVerdict)
