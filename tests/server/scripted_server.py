"""A server over a scripted engine, to be stopped by signals: `python -m tests.server.scripted_server ROOT DRAIN`.

Prints its port once it accepts connections. Every answer goes on for about ten minutes unless the engine is stopped;
with a third argument that takes for ever.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import uvicorn

from engine.api import AnyRequest, Delta, Event, Final, GenerateRequest
from engine.errors import EngineStopped
from server.app import create_app
from server.env import Address
from server.http.listen import listen
from server.http.protocol import BoundedHttpProtocol
from server.http.serve import Server
from server.settings import Settings
from tests.server.fake_engine import FakeEngine


class EndlessEngine(FakeEngine):
    """Counts until it is stopped, or to the number in the prompt."""

    async def start(self) -> None:
        await super().start()
        self.over = asyncio.Event()

    async def stop(self) -> None:
        await super().stop()
        self.over.set()

    async def _play(self, request: AnyRequest) -> AsyncIterator[Event]:
        assert isinstance(request, GenerateRequest)
        for number in range(int(request.prompt)):
            yield Delta(str(number))
            await asyncio.wait({asyncio.ensure_future(self.over.wait())}, timeout=0.02)
            if self.over.is_set():
                raise EngineStopped
        yield Final(done_reason="stop")


class StubbornEngine(EndlessEngine):
    """Does not come to an end of stopping."""

    async def stop(self) -> None:
        await super().stop()
        await asyncio.Event().wait()


async def main(root: Path, drain: float, *, stubborn: bool) -> None:
    sock = listen(Address("127.0.0.1", 0))
    engine = StubbornEngine(root) if stubborn else EndlessEngine(root)
    app = create_app(Settings(models=root), engine, engine.models)
    config = uvicorn.Config(app, http=BoundedHttpProtocol, ws="none", log_config=None, access_log=False)
    server = Server(config, drain)
    serving = asyncio.create_task(server.serve([sock]))
    await server.ready.wait()
    print(sock.getsockname()[1], flush=True)
    await serving


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), float(sys.argv[2]), stubborn=len(sys.argv) > 3))
