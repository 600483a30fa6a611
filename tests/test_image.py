"""What can be said of the image without building it: its labels, and its health check as a program."""

from __future__ import annotations

import re
import socket
import subprocess
import threading
import tomllib
from pathlib import Path

import pytest

from server.settings import Settings
from tests.outside import needs
from tests.serving import ROOT, Served

CHECK = ROOT / "deploy/health-check"
DOCKERFILE = (ROOT / "Dockerfile").read_text()


def test_labels_are_those_of_the_project() -> None:
    labels = dict(re.findall(r'org\.opencontainers\.image\.(\w+)="([^"]*)"', DOCKERFILE))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    expected = {"title": "name", "description": "description", "licenses": "license", "version": "version"}
    assert labels == {label: project[key] for label, key in expected.items()}


def check(address: str) -> int:
    """The exit code of the health check, without any program on its PATH."""
    [bash] = needs("bash")
    environ = {"PATH": "/nonexistent", "OLLAMA_HOST": address}
    return subprocess.run([bash, str(CHECK)], env=environ, capture_output=True, check=False, timeout=60).returncode


def test_the_health_check_tells_a_server_that_answers(server: Served) -> None:
    assert check(server.url) == 0
    assert check(server.url.removeprefix("http://")) == 0


def test_the_health_check_fails_where_no_server_is_well() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        threading.Thread(target=refuse, args=(other,)).start()
        assert check(f"127.0.0.1:{port}") == 1
    assert check(f"127.0.0.1:{port}") == 1


def refuse(listener: socket.socket) -> None:
    """Answer one request with 503."""
    connection, _ = listener.accept()
    with connection:
        connection.recv(1 << 10)
        connection.sendall(b"HTTP/1.1 503 Service Unavailable\r\n\r\n")


def dialled(address: str, tmp_path: Path) -> str:
    """Where the health check connects for a value of OLLAMA_HOST."""
    script = CHECK.read_text()
    assert script.count("exec 3<>") == 1
    copy = tmp_path / "check"
    copy.write_text(script.split("exec 3<>")[0] + 'printf "%s %s" "$host" "$port"\n')
    [bash] = needs("bash")
    return subprocess.run(
        [bash, str(copy)], env={"OLLAMA_HOST": address}, capture_output=True, text=True, check=True
    ).stdout


@pytest.mark.parametrize(
    "address",
    [
        "",
        ":80",
        "0",
        "0.0.0.0:8080",
        "127.0.0.1",
        "http://10.0.0.1",
        "http://host:1234/prefix",
        "host",
        "host:",
        "[::1]:11435",
        "[::]:11435",
        " '1.2.3.4:5' ",
        "::1",
        "[::1",
        "https://host",
        "HTTP://host",
        "127.0.0.1:99999",
        "127.0.0.1:-1",
        "127.0.0.1:abc",
        "127.0.0.1:00080",
    ],
)
def test_the_health_check_reads_the_address_as_the_server_does(address: str, tmp_path: Path) -> None:
    known = Settings.from_env({"OLLAMA_HOST": address}).address
    assert dialled(address, tmp_path) == f"{known.client_host} {known.port}"
