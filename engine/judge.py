"""Asks a child process whether a grammar can be used, before any model meets it."""

from __future__ import annotations

import asyncio
import hashlib
import sys
from collections.abc import Mapping

import msgspec

from engine.errors import EngineError, EngineStopped, InvalidRequest
from engine.messages import FRAME_HEADER, Grammar
from engine.process import child_environment

REMEMBERED = 4096  # grammars known to be good; clients send the same ones again and again
TOO_MUCH = "it is too complex"
_ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}  # more reserve what the process may not have


class Judge:
    """Checks one grammar after the other. Lives on the server's event loop; `close` ends its process.

    The process starts with the first check. One that a grammar has killed is replaced with the next check.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self._process: asyncio.subprocess.Process | None = None
        self._turn = asyncio.Lock()
        self._good: dict[bytes, None] = {}
        self._closed = False

    async def check(self, grammar: Grammar, what: str) -> None:
        """Return if the grammar can be used; else raise InvalidRequest, which names it as `what`."""
        body = msgspec.msgpack.encode(grammar)
        key = hashlib.sha256(body).digest()
        if key in self._good:
            return
        async with self._turn:
            reason = await self._ask(body)
        if reason:
            raise InvalidRequest(f"{what}: {reason}")
        if len(self._good) >= REMEMBERED:
            del self._good[next(iter(self._good))]
        self._good[key] = None

    async def close(self) -> None:
        """End the process; later checks raise EngineStopped."""
        self._closed = True
        await self._end()

    async def _ask(self, body: bytes) -> str:
        """The verdict on an encoded grammar: why it cannot be used, or ""."""
        process = self._process
        if process is None or process.returncode is not None:
            process = await self._start()
        answered = False
        try:
            assert process.stdin is not None
            process.stdin.write(FRAME_HEADER.pack(len(body)) + body)
            reason = await _read(process)
            answered = True
        except (asyncio.IncompleteReadError, ConnectionError):
            if self._closed:
                raise EngineStopped from None
            return TOO_MUCH
        finally:
            if not answered:  # also when nobody waits for the verdict any more: the next one must not get it
                await self._end()
        return reason

    async def _start(self) -> asyncio.subprocess.Process:
        if self._closed:
            raise EngineStopped
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "engine.runner.judge"),
            env=child_environment(self._environ) | _ONE_THREAD,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        try:
            await _read(self._process)
        except asyncio.IncompleteReadError:
            await self._end()
            raise EngineError("what checks grammars does not start") from None
        return self._process

    async def _end(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        if process.returncode is None:
            process.kill()
        await process.wait()


async def _read(process: asyncio.subprocess.Process) -> str:
    assert process.stdout is not None
    (size,) = FRAME_HEADER.unpack(await process.stdout.readexactly(FRAME_HEADER.size))
    return (await process.stdout.readexactly(size)).decode()
