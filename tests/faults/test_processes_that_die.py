"""A child that dies costs its own requests one clear error; a parent that dies takes its children along."""

import asyncio
import json
import os
import signal
from pathlib import Path

import httpx
import psutil
import pytest

from registry.names import Digest
from tests.modelfile.create.models import F16
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
