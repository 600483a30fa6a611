"""The real server process: it starts, says why if it cannot, and stops."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from registry.storage.store import Store
from tests.disks import small_disk
from tests.outside import missing, needs
from tests.serving import LOOPBACK, serving

PATIENCE = 60  # seconds
FOLDERS = [
    ("", 0o700, True, "Permission denied"),
    ("blobs", 0o700, True, "Permission denied"),
    ("", 0o755, False, "it has no models, and cannot be written: Permission denied"),
    ("", 0o755, True, ""),
]
"""Of another user: a part or "" for itself, its rights, whether there are models in it, and why it cannot be used."""


def environment(tmp_path: Path, port: int, **more: str) -> dict[str, str]:
    return os.environ | {"OLLAMA_HOST": f"127.0.0.1:{port}", "OLLAMA_MODELS": str(tmp_path / "models"), **more}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def fail(env: dict[str, str], started_by: Sequence[str] = ()) -> tuple[int, str]:
    """Exit code and last line of a server that does not start."""
    result = subprocess.run(
        [*started_by, sys.executable, "-m", "server.main"],
        env=env,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
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


@pytest.mark.parametrize("place", ["models/blobs", ""])
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


def test_a_models_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "models").write_text("a file")
    with socket.create_server(("127.0.0.1", 0)) as other:  # the folder is looked at before the port
        code, message = fail(environment(tmp_path, other.getsockname()[1]))
    assert code == 1
    assert message == (
        f"Error: the models folder {tmp_path}/models cannot be used by user {os.geteuid()}: Not a directory; "
        "give the user rights there, or let OLLAMA_MODELS name another folder"
    )


def test_paths_that_cannot_be_a_models_folder(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("nothing")
    for path, reason in (
        (tmp_path / "link", f"{tmp_path}/link is a link to nothing"),
        (tmp_path / "\udce9", "its path is not UTF-8"),
    ):
        code, message = fail(environment(tmp_path, free_port(), OLLAMA_MODELS=str(path)))
        assert code == 1
        assert f"cannot be used by user {os.geteuid()}: {reason}; " in message
    assert [each.name for each in tmp_path.iterdir()] == ["link"]


def test_schemes_that_the_server_does_not_speak(tmp_path: Path) -> None:
    code, message = fail(environment(tmp_path, free_port(), OLLAMA_HOST="unix:///tmp/pronk.sock"))
    assert (code, message) == (1, "Error: cannot listen on unix://: OLLAMA_HOST must be an address of http")


def test_servers_that_start_together(tmp_path: Path) -> None:
    """One gets the port; the others say so."""
    env = environment(tmp_path, free_port())
    command = [sys.executable, "-m", "server.main"]
    servers = [subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    try:
        ends = time.monotonic() + PATIENCE
        while sum(server.poll() is None for server in servers) > 1 and time.monotonic() < ends:
            time.sleep(0.05)
        assert sorted(server.poll() or 0 for server in servers) == [0, 1, 1]
        message = f"Error: listen tcp {env['OLLAMA_HOST']}: bind: address already in use"
        for server in servers:
            if server.poll() is not None and server.stderr is not None:
                lines = server.stderr.read().splitlines()
                assert lines[-1] == message
                assert not any("Traceback" in line for line in lines)
    finally:
        for server in servers:
            server.kill()
            server.communicate()


@pytest.mark.parametrize(("part", "mode", "stored", "reason"), FOLDERS, ids=["closed", "part", "empty", "with models"])
def test_a_folder_of_another_user(tmp_path: Path, part: str, mode: int, stored: bool, reason: str) -> None:
    (setpriv,) = needs("setpriv")
    nobody = [setpriv, "--reuid=65534", "--regid=65534", "--clear-groups"]
    if os.geteuid() != 0 or subprocess.run([*nobody, sys.executable, "-c", ""], check=False).returncode != 0:
        missing("another user cannot run this: that takes root, and folders that all may read")
    with tempfile.TemporaryDirectory() as place:  # pytest's own folders are closed
        folder = Path(place) / "models"
        os.chmod(place, 0o755)
        folder.mkdir()
        if stored:
            Store(folder).seed()
        (folder / part).chmod(mode)
        if not reason:
            with serving(folder, nobody) as served:
                assert httpx.get(f"{served.url}/api/tags", **LOOPBACK).json()["models"]
                assert httpx.get(f"{served.url}/readyz", **LOOPBACK).text == "ok"
            assert " models are read-only: " in served.log.read_text()
            assert " uid=65534 writable=False " in served.log.read_text()
            return
        code, message = fail(environment(tmp_path, free_port(), OLLAMA_MODELS=str(folder)), nobody)
    assert code == 1
    assert message.startswith(f"Error: the models folder {folder} cannot be used by user 65534: {reason}; ")


def test_a_full_disk(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 64 << 10) as disk:
        with (disk / "full").open("wb", buffering=0) as file, suppress(OSError):
            while file.write(bytes(1 << 10)):
                pass
        code, message = fail(environment(tmp_path, free_port(), OLLAMA_MODELS=str(disk)))
    assert code == 1
    assert "it has no models, and cannot be written: No space left on device" in message


def test_the_start_is_told(tmp_path: Path) -> None:
    secrets = {"HF_TOKEN": "hf_secret", "https_proxy": "http://me:pass@proxy.example:1"}
    misspelt = {"PRONK_API_KEY": "abcdefghijklmnop", "PRONK_OF_ANOTHER_PROGRAM": "1"}
    with serving(tmp_path / "models", PRONK_LOG_FORMAT="json", OLLAMA_MAX_QUEUE="7", **secrets, **misspelt) as served:
        text = served.log.read_text()
    assert "hf_secret" not in text
    assert "pass@" not in text
    lines = {line["message"]: line for line in map(json.loads, text.splitlines())}
    folder = lines["models folder"]
    assert (folder["path"], folder["uid"], folder["writable"]) == (str(served.store), os.geteuid(), True)
    assert folder["free_bytes"] > 0
    changed = lines["settings changed"]
    assert (changed["OLLAMA_MAX_QUEUE"], changed["HF_TOKEN"]) == ("7", "***")
    assert changed["HTTPS_PROXY"] == "http://***@proxy.example:1"
    assert "OLLAMA_KEEP_ALIVE" not in changed
    assert lines["device"]["total_bytes"] >= lines["device"]["free_bytes"] > 0
    assert lines["context"]["default"] > 0
    assert lines["access"]["keys"] == "none"
    warnings = [line["message"] for line in lines.values() if line["message"].startswith("configuration: ")]
    assert warnings == ["configuration: PRONK_API_KEY is not known; PRONK_API_KEYS is"]


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
