"""Streams that nobody reads to the end leave nothing behind."""

import asyncio
import json
import os
import time

import httpx
import psutil
import pytest

from tests.processes import descendants
from tests.serving import GREEDY, LOOPBACK, Served

ABANDONED, AT_ONCE = 250, 8
POOL = (os.cpu_count() or 1) + 4  # the most threads that the event loop starts for what blocks
STORY = {"model": "tinychat", "prompt": "Write a long story.", "options": {"num_predict": 400}}


async def leave_after_the_first_line(port: int, body: object) -> None:
    data = json.dumps(body).encode()
    head = f"POST /api/generate HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(data)}\r\n\r\n"
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(head.encode() + data)
    await reader.readuntil(b'"done":false')
    writer.close()
    await writer.wait_closed()


async def spare_is_back(server: Served) -> None:
    """Wait for the second child: beside the one with the model a spare one is started a little later."""
    async with asyncio.timeout(30):
        while len(descendants(server.process.pid, "engine.runner")) < 2:  # noqa: ASYNC110 - what is waited for is inside the server
            await asyncio.sleep(0.05)


async def settled(process: psutil.Process, baseline: int) -> bool:
    """Whether the process comes back to so many open files."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if process.num_fds() <= baseline:
            return True
        await asyncio.sleep(0.05)
    return False


@pytest.fixture
def port(server: Served) -> int:
    return int(server.url.rpartition(":")[2])


async def test_hundreds_of_abandoned_streams(server: Served, port: int) -> None:
    await asyncio.gather(*(leave_after_the_first_line(port, STORY) for _ in range(AT_ONCE)))
    await spare_is_back(server)
    parent = psutil.Process(server.process.pid)
    files, threads = parent.num_fds(), parent.num_threads()
    gate = asyncio.Semaphore(AT_ONCE)

    async def one() -> None:
        async with gate:
            await leave_after_the_first_line(port, STORY)

    await asyncio.gather(*(one() for _ in range(ABANDONED)))
    async with httpx.AsyncClient(base_url=server.url, **LOOPBACK, timeout=60) as client:
        answer = await client.post(
            "/api/generate", json={"model": "tinychat", "prompt": "Count to 5", "stream": False, "options": GREEDY}
        )
        assert answer.json()["response"] == "1, 2, 3, 4, 5"
    assert await settled(parent, files)
    assert parent.num_threads() <= max(threads, POOL + 2)


async def test_a_client_that_leaves_while_its_prompt_is_read(server: Served, port: int) -> None:
    long = {"model": "tinychat", "prompt": "word " * 900, "raw": True, "options": {"num_predict": 1}}
    for _ in range(10):
        data = json.dumps(long).encode()
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"POST /api/generate HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s" % (len(data), data))
        await writer.drain()
        await asyncio.sleep(0.01)
        writer.close()
        await writer.wait_closed()
    async with httpx.AsyncClient(base_url=server.url, **LOOPBACK, timeout=60) as client:
        body = {"model": "tinychat", "prompt": "Count to 5", "stream": False, "options": GREEDY}
        assert (await client.post("/api/generate", json=body)).json()["response"] == "1, 2, 3, 4, 5"
