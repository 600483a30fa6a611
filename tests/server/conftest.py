"""The application over a scripted engine: in memory, and on a socket where the wire itself is tested."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import uvicorn

from server.app import create_app
from server.env import Address
from server.http.listen import listen
from server.http.protocol import BoundedHttpProtocol
from server.http.serve import Server
from server.settings import Settings
from tests.server.fake_engine import FakeEngine


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(models=tmp_path / "models", max_body=100_000, api_keys_file=tmp_path / "api_keys.json")


@pytest.fixture
def engine(settings: Settings) -> FakeEngine:
    return FakeEngine(settings.models)


@pytest.fixture
async def client(settings: Settings, engine: FakeEngine) -> AsyncIterator[httpx.AsyncClient]:
    """Asks the application without a socket; an exception that nobody handles becomes the 500 a client would see."""
    transport = httpx.ASGITransport(app=create_app(settings, engine, engine.models), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:11434") as client:
        yield client


@dataclass
class Live:
    """A server on a free port of the loopback interface."""

    host: str
    port: int
    server: Server

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    async def send(self, data: bytes) -> bytes:
        """Everything that the server answers to these bytes until it closes or falls silent."""
        reader, writer = await asyncio.open_connection(self.host, self.port)
        writer.write(data)
        answer = b""
        try:
            while part := await asyncio.wait_for(reader.read(65536), 2):
                answer += part
                if _complete(answer):
                    break
        except (TimeoutError, ConnectionResetError):
            pass
        writer.close()
        return answer

    async def converse(self, *pieces: bytes) -> list[tuple[int, bytes]]:
        """Status and body of every answer to these pieces, sent one after the other, until the server closes."""
        reader, writer = await asyncio.open_connection(self.host, self.port)
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0.002)  # so that it arrives as a piece
        async with asyncio.timeout(30):
            data = await reader.read()
        writer.close()
        return list(answers(data))

    async def until_alone(self) -> None:
        """Returns when there is no connection any more."""
        for _ in range(3000):
            if not self.server.server_state.connections:
                return
            await asyncio.sleep(0.01)
        pytest.fail("connections are kept")


def answers(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Status and body of each answer; one without a length is the last."""
    while data:
        head, _, data = data.partition(b"\r\n\r\n")
        status, lines = int(head.split()[1]), head.lower().split(b"\r\n")
        assert b"transfer-encoding: chunked" not in lines
        lengths = [int(line.split(b":")[1]) for line in lines if line.startswith(b"content-length:")]
        size = lengths[0] if lengths else 0 if status in (100, 204) else len(data)
        yield status, data[:size]
        data = data[size:]


def _complete(answer: bytes) -> bool:
    head, separator, body = answer.partition(b"\r\n\r\n")
    lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    return bool(separator and lengths) and len(body) >= int(lengths[0].split(b":")[1])


@pytest.fixture
async def live(settings: Settings, engine: FakeEngine) -> AsyncIterator[Live]:
    sock = listen(Address("127.0.0.1", 0))
    host, port = sock.getsockname()
    config = uvicorn.Config(
        create_app(settings, engine, engine.models),
        http=BoundedHttpProtocol,
        ws="none",
        log_config=None,
        access_log=False,
    )
    server = Server(config, drain=0.0)
    running = asyncio.create_task(server.serve([sock]))
    await server.ready.wait()
    yield Live(host, port, server)
    server.stop()
    await running
