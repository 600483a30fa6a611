"""uvicorn's server with our shutdown: running answers get some seconds to finish, then the engine ends them."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import threading
from contextvars import Context
from types import FrameType

import uvicorn

from server.env import Address
from server.stopping import SIGNALS, leave

_TICK = 1.0  # seconds; how often the Date header is renewed
_LAST_LINE = 1.0  # seconds in which answers that the engine ended may send their last line
_FORCED_EXIT = 0.8  # seconds after a second signal
log = logging.getLogger("pronk.server")


class Server(uvicorn.Server):
    """Serves until SIGINT or SIGTERM; `ready` is set once connections are accepted.

    After SIGTERM, answers may go on for `drain` seconds. SIGINT or a second signal ends them at once. The end of the
    lifespan must end all answers.
    """

    def __init__(self, config: uvicorn.Config, drain: float) -> None:
        super().__init__(config)
        self.ready = asyncio.Event()
        self._drain = drain
        self._stop = asyncio.Event()
        self._hurry = asyncio.Event()

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, serve until a signal or `stop`, shut down."""
        loop = asyncio.get_running_loop()

        def on_signal(number: int, _: FrameType | None) -> None:
            loop.call_soon_threadsafe(self._on_signal, number, context=Context())

        # Not the loop's own handlers: while those are removed, there is a moment in which a signal kills.
        before = {number: signal.signal(number, on_signal) for number in SIGNALS}
        try:
            await self._serve(sockets)
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start the engine, then accept connections."""
        await super().startup(sockets)
        for sock in sockets or ():
            host, port = sock.getsockname()[:2]
            log.info("listening on %s", Address(host, port).shown)
        self.ready.set()

    async def main_loop(self) -> None:
        """Serve until `stop`."""
        while not await self.on_tick(0):
            try:
                await asyncio.wait_for(self._stop.wait(), _TICK)
            except TimeoutError:
                continue

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Close the listening sockets, wait for answers, stop the engine, cancel what is left."""
        for listener in self.servers:
            listener.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        await self._wait_for_answers(self._drain)
        await self.lifespan.shutdown()
        await self._wait_for_answers(_LAST_LINE, patient=True)
        for task in self.server_state.tasks:
            task.cancel()

    def stop(self, *, hurry: bool = False) -> None:
        """Stop serving. With `hurry`, or when called again, do not wait for answers."""
        if hurry or self._stop.is_set():
            self._hurry.set()
        self.should_exit = True
        if (stopping := self.lifespan.state.get("stopping")) is not None:
            stopping.set()
        self._stop.set()

    def _on_signal(self, number: int) -> None:
        log.info("stopping on %s", signal.Signals(number).name)
        if self._stop.is_set():  # the user does not want to wait: exit even if something hangs
            last = threading.Timer(_FORCED_EXIT, leave)
            last.daemon = True
            last.start()
        self.stop(hurry=number == signal.SIGINT)

    async def _wait_for_answers(self, seconds: float, *, patient: bool = False) -> None:
        answers = set(self.server_state.tasks)
        if not answers:
            return
        hurry = asyncio.ensure_future(self._hurry.wait())
        done = asyncio.ensure_future(asyncio.wait(answers))
        await asyncio.wait({done} if patient else {done, hurry}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        hurry.cancel()
        done.cancel()
