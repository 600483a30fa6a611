"""A child that dies costs its own requests one clear error; a parent that dies takes its children along."""

import asyncio
import json
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from registry.names import Digest
from tests.modelfile.create.models import F16
from tests.processes import descendants
from tests.serving import GREEDY, LOOPBACK, PATIENCE, ROOT, Served, serving

STORY = {"model": "tinychat", "prompt": "Write a long story.", "options": {"num_predict": 1000, "temperature": 1}}
COUNT = {"model": "tinychat", "prompt": "Count to 5", "stream": False, "options": GREEDY}
FORMATTED = COUNT | {"format": "json", "options": GREEDY | {"num_predict": 24}}
GONE = "model runner has unexpectedly stopped"


def busiest(server: Served) -> psutil.Process:
    """The child that has the model."""
    return max(server.runners(), key=lambda process: process.memory_info().rss)


async def stream(client: httpx.AsyncClient, started: asyncio.Event) -> dict[str, object]:
    """The last line of a story."""
    last: dict[str, object] = {}
    async with client.stream("POST", "/api/generate", json=STORY) as answer:
        async for line in answer.aiter_lines():
            last = json.loads(line)
            started.set()
    return last


async def test_the_child_is_killed_under_load(server: Served) -> None:
    async with httpx.AsyncClient(base_url=server.url, **LOOPBACK, timeout=60) as client:
        await client.post("/api/generate", json=COUNT)
        for _ in range(3):
            started = [asyncio.Event() for _ in range(8)]
            streams = [asyncio.create_task(stream(client, event)) for event in started]
            await asyncio.gather(*(event.wait() for event in started))
            busiest(server).kill()
            lines = await asyncio.wait_for(asyncio.gather(*streams), PATIENCE)
            assert all(str(line.get("error")).startswith(GONE) for line in lines), lines
            answer = await client.post("/api/generate", json=COUNT)
            assert answer.json()["response"] == "1, 2, 3, 4, 5"
    zombies = [child for child in server.runners() if child.status() == psutil.STATUS_ZOMBIE]
    assert not zombies


@contextmanager
def watched(tmp_path: Path) -> Iterator[tuple[Served, httpx.Client]]:
    """A server that waits a second for signs of life, and a client of it."""
    with (
        serving(tmp_path / "models", PRONK_WATCHDOG="1s") as server,
        httpx.Client(base_url=server.url, **LOOPBACK, timeout=PATIENCE) as client,
    ):
        yield server, client


def answers(client: httpx.Client, path: str = "/api/generate", **fields: object) -> dict[str, Any]:
    answer: dict[str, Any] = client.post(path, json=COUNT | fields).raise_for_status().json()
    return answer


def children(server: Served, module: str) -> list[psutil.Process]:
    """The children that run this module, once there are any."""
    deadline = time.monotonic() + PATIENCE
    while not (found := descendants(server.process.pid, module)):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return found


def stop(*processes: psutil.Process) -> None:
    for process in processes:
        process.send_signal(signal.SIGSTOP)


def test_a_child_that_is_stopped_in_a_stream_is_replaced(tmp_path: Path) -> None:
    with watched(tmp_path) as (server, client):
        answers(client)
        with client.stream("POST", "/api/generate", json=STORY) as story:
            lines = story.iter_lines()
            next(lines)
            stopped = busiest(server)
            stop(stopped)
            last = json.loads([*lines][-1])
        assert last["error"].startswith(GONE)
        assert last["error"].endswith("it gave no sign of life for 1 s")
        assert answers(client)["response"] == "1, 2, 3, 4, 5"
        psutil.wait_procs([stopped], PATIENCE)
        assert not stopped.is_running()


def test_a_spare_child_that_is_stopped_is_replaced_before_the_next_load(tmp_path: Path) -> None:
    with watched(tmp_path) as (server, client):
        answers(client, keep_alive=0)
        for _ in range(3):
            stop(*children(server, "engine.runner"))
            assert answers(client, keep_alive=0)["response"] == "1, 2, 3, 4, 5"


def test_what_checks_grammars_and_renders_templates_is_replaced_when_it_is_stopped(tmp_path: Path) -> None:
    chat = {"messages": [{"role": "user", "content": "Count to 5"}]}
    with watched(tmp_path) as (server, client):
        answers(client, "/api/chat", **chat)
        answers(client, format="json")
        for number in range(2):
            stop(*children(server, "engine.runner.grammar_check"))
            schema = {"type": "object", "properties": {f"a{number}": {"type": "null"}}}
            assert json.loads(answers(client, format=schema, options=FORMATTED["options"])["response"]) is not None
        stop(*children(server, "engine.chat.jinja.worker")[1:])  # the first forks the others
        assert answers(client, "/api/chat", **chat)["message"]["content"] == "1, 2, 3, 4, 5"
        stop(children(server, "engine.chat.jinja.worker")[0])
        replies = [answers(client, "/api/chat", **chat)["message"]["content"] for _ in range(4)]
        assert replies == ["1, 2, 3, 4, 5"] * 4


def test_no_child_survives_the_parent(tmp_path: Path) -> None:
    with serving(tmp_path / "models") as server:
        httpx.post(f"{server.url}/api/generate", json=COUNT, **LOOPBACK, timeout=60).raise_for_status()
        children = server.runners()
        assert children
        server.process.send_signal(signal.SIGKILL)
        server.process.wait()
        _, alive = psutil.wait_procs(children, timeout=10)
        assert not alive


def test_a_server_without_what_only_linux_has(tmp_path: Path) -> None:
    """On macOS there is no signal at the end of a parent, no limit of addresses and no file for a process."""
    (tmp_path / "sitecustomize.py").write_text("from modelfile import operating_system as o; o.LINUX = False")
    with serving(tmp_path / "models", PYTHONPATH=os.pathsep.join((str(ROOT), str(tmp_path)))) as server:
        with httpx.Client(base_url=server.url, **LOOPBACK, timeout=PATIENCE) as client:
            assert client.post("/api/generate", json=COUNT).json()["response"] == "1, 2, 3, 4, 5"
            formatted = client.post("/api/generate", json=FORMATTED)
            assert json.loads(formatted.json()["response"]) is not None
        children = server.runners()
        assert children
        assert all(child.rlimit(psutil.RLIMIT_AS)[0] == psutil.RLIM_INFINITY for child in children)
        server.process.send_signal(signal.SIGKILL)
        server.process.wait()
        _, alive = psutil.wait_procs(children, timeout=PATIENCE)
        assert not alive


def test_a_stop_ends_the_children_and_the_answers(tmp_path: Path) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        with serving(tmp_path / "models", PRONK_DRAIN_TIMEOUT="0") as server:
            with httpx.stream("POST", f"{server.url}/api/generate", json=STORY, **LOOPBACK, timeout=60) as answer:
                lines = answer.iter_lines()
                next(lines)
                children = server.runners()
                server.process.send_signal(number)
                rest = [json.loads(line) for line in lines]
            assert rest[-1] == {"error": "server is shutting down"} or rest[-1]["done"]
            assert server.process.wait(20) == 0
            _, alive = psutil.wait_procs(children, timeout=10)
            assert not alive


@pytest.mark.parametrize("closed", ["<&- >&-", "<&- >&- 2>&-"])
def test_a_server_without_standard_streams_serves_as_any_other(tmp_path: Path, closed: str) -> None:
    shell = ("sh", "-c", f'exec "$@" {closed}', "sh")
    with serving(tmp_path / "models", started_by=shell) as server:
        with httpx.Client(base_url=server.url, **LOOPBACK, timeout=PATIENCE) as client:
            assert client.post("/api/generate", json=COUNT).json()["response"] == "1, 2, 3, 4, 5"
            formatted = client.post("/api/generate", json=FORMATTED)
            assert json.loads(formatted.json()["response"]) is not None
            file = F16.read_bytes()
            client.post(f"/api/blobs/{Digest.of(file)}", content=file)
            wanted = {"model": "q", "files": {"m.gguf": str(Digest.of(file))}, "quantize": "q8_0", "stream": False}
            assert client.post("/api/create", json=wanted).json() == {"status": "success"}
        streams = [Path(f"/proc/{server.process.pid}/fd/{number}") for number in range(3)]
        assert all(not path.exists() or not str(path.readlink()).startswith("socket:") for path in streams)
