"""The real server process: it starts, says why if it cannot, and stops."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from tests.serving import LOOPBACK, serving

PATIENCE = 60  # seconds


def environment(tmp_path: Path, port: int, **more: str) -> dict[str, str]:
    return os.environ | {"OLLAMA_HOST": f"127.0.0.1:{port}", "OLLAMA_MODELS": str(tmp_path / "models"), **more}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def fail(env: dict[str, str]) -> tuple[int, str]:
    """Exit code and last line of a server that does not start."""
    result = subprocess.run(
        [sys.executable, "-m", "server.main"], env=env, capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    return result.returncode, result.stderr.splitlines()[-1]


def test_a_taken_port(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        code, message = fail(environment(tmp_path, port))
    assert code == 1
    assert message == f"Error: listen tcp 127.0.0.1:{port}: bind: address already in use"


def test_a_bad_origin(tmp_path: Path) -> None:
    code, message = fail(environment(tmp_path, free_port(), OLLAMA_ORIGINS="evil.example"))
    assert code == 1
    assert message.startswith("Error: bad origin: 'evil.example'")


@pytest.mark.parametrize("place", ["models", "models/blobs", ""])
def test_a_folder_that_cannot_be_written(tmp_path: Path, place: str) -> None:
    if place:
        (tmp_path / place).parent.mkdir(exist_ok=True)
        (tmp_path / place).write_text("a file")
    with serving(tmp_path / "models", new=True) as served:
        log = served.log.read_text()
    cause = f"{tmp_path / place} cannot be written: Not a directory"
    line = f"level=WARNING models are read-only: {cause}; models can be run, but not pulled"
    assert (line in log) is bool(place)
    assert ("cannot be written" in log) is bool(place)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_start_and_stop(tmp_path: Path, number: signal.Signals) -> None:
    port = free_port()
    env = environment(tmp_path, port, OLLAMA_MAX_QUEUE="many", PRONK_VERSION_REPORTED="1.2.3")
    command = [sys.executable, "-m", "server.main"]
    with subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True) as child:
        url = f"http://127.0.0.1:{port}"
        while True:
            assert child.poll() is None
            try:
                answer = httpx.get(f"{url}/api/version", **LOOPBACK)
                break
            except httpx.TransportError:
                time.sleep(0.05)
        assert answer.json() == {"version": "1.2.3"}
        child.send_signal(number)
        _, log = child.communicate(timeout=PATIENCE)
    assert child.returncode == 0
    assert f"listening on 127.0.0.1:{port}" in log
    machine = r"processor .+, \d+ threads?, \d+\.\d GiB memory, backends for GPUs: .+"
    assert len(re.findall(rf"level=INFO Pronk \S+, models in {re.escape(str(tmp_path))}/models, {machine}\n", log)) == 1
    assert "invalid value of OLLAMA_MAX_QUEUE" in log
    assert "method=GET path='/api/version' status=200" in log
    assert "Traceback" not in log


def test_a_new_store_lists_the_bundled_models_from_the_start(tmp_path: Path) -> None:
    with serving(tmp_path / "models", new=True) as served, httpx.Client(base_url=served.url, **LOOPBACK) as client:
        names = {model["name"] for model in client.get("/api/tags").json()["models"]}
        assert names == {"tinychat:latest", "sight:latest"}
        assert {model["id"] for model in client.get("/v1/models").json()["data"]} == names
