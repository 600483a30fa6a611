"""The configurations of nginx and Caddy in `deploy/`, with these servers in front of a real one."""

from __future__ import annotations

import hashlib
import os
import re
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.outside import if_installed
from tests.serving import LOOPBACK, ROOT, Served

DEPLOY = ROOT / "deploy"
PATIENCE = 60.0  # seconds
NAME, UPSTREAM = "pronk.example.org", "127.0.0.1:11434"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def nginx(upstream: str, port: int, folder: Path) -> list[str]:
    """The command that runs nginx, without TLS and root's rights."""
    [program] = if_installed("nginx")
    text = (DEPLOY / "nginx.conf").read_text()
    text = re.sub(r"listen \[::\]:443 ssl;|ssl_certificate\w* .*;", "", text)
    assert text.count(UPSTREAM) == text.count("listen 443 ssl;") == 1
    text = text.replace(UPSTREAM, upstream).replace("listen 443 ssl;", f"listen 127.0.0.1:{port};")
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    folders = "".join(f"{kind}_temp_path {folder}/{kind};\n" for kind in kinds)
    config = folder / "nginx.conf"
    config.write_text(
        f"daemon off; master_process off; pid {folder}/pid; error_log {folder}/log;\nevents {{}}\n"
        f"http {{\naccess_log off;\n{folders}{text}\n}}\n"
    )
    return [program, "-e", f"{folder}/log", "-c", str(config)]


def caddy(upstream: str, port: int, folder: Path) -> list[str]:
    """The command that runs Caddy, without TLS."""
    [program] = if_installed("caddy")
    text = (DEPLOY / "Caddyfile").read_text()
    assert text.count(UPSTREAM) == text.count(f"\n{NAME} {{") == 1
    text = text.replace(UPSTREAM, upstream).replace(f"\n{NAME} {{", f"\nhttp://127.0.0.1:{port} {{")
    config = folder / "Caddyfile"
    config.write_text(f"{{\n\tadmin off\n}}\n{text}")
    return [program, "run", "--adapter", "caddyfile", "--config", str(config)]


PROXIES = {"nginx": nginx, "caddy": caddy}


@contextmanager
def proxy(name: str, upstream: str, folder: Path) -> Iterator[str]:
    """A proxy in front of an address; yields its URL."""
    port = free_port()
    command = PROXIES[name](upstream, port, folder)
    environ = {**os.environ, "HOME": str(folder), "XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}
    with (folder / "output").open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, env=environ)
    try:
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except OSError:
                assert process.poll() is None, (folder / "output").read_text()
                assert time.monotonic() < deadline, (folder / "output").read_text()
                time.sleep(0.02)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(PATIENCE)


@pytest.mark.parametrize("name", PROXIES)
def test_a_server_behind_it(name: str, server: Served, tmp_path: Path) -> None:
    with proxy(name, server.url.removeprefix("http://"), tmp_path) as url:
        assert httpx.get(f"{url}/healthz", **LOOPBACK).text == "ok"
        blob = os.urandom(3 << 20)  # more than nginx takes by default
        digest = hashlib.sha256(blob).hexdigest()
        assert httpx.post(f"{url}/api/blobs/sha256:{digest}", content=blob, **LOOPBACK).status_code == 201
        assert (server.store / "blobs" / f"sha256-{digest}").read_bytes() == blob


class Slow:
    """A server that takes one request and sends the rest of its answer only when it is told to."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.asked, self.go_on = threading.Event(), threading.Event()
        self.head = ""
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def _serve(self) -> None:
        connection, _ = self._listener.accept()
        with self._listener, connection:
            while "\r\n\r\n" not in self.head:
                self.head += connection.recv(1 << 16).decode()
            self.asked.set()
            start = "HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n"
            connection.sendall(f"{start}6\r\nfirst\n\r\n".encode())
            self.go_on.wait(PATIENCE)
            connection.sendall(b"5\r\nlast\n\r\n0\r\n\r\n")


@pytest.mark.parametrize("name", PROXIES)
def test_an_answer_is_sent_on_as_it_comes(name: str, tmp_path: Path) -> None:
    slow = Slow()
    headers = {"Host": NAME, "Authorization": "Bearer a-key"} if name == "nginx" else {"Authorization": "Bearer a-key"}
    with (
        proxy(name, slow.address, tmp_path) as url,
        httpx.stream("GET", url, headers=headers, timeout=PATIENCE / 2, trust_env=False) as answer,
    ):
        lines = answer.iter_lines()
        assert next(lines) == "first"
        slow.go_on.set()
        assert list(lines) == ["last"]
        slow.thread.join(PATIENCE)
        sent = dict(line.split(": ", 1) for line in slow.head.split("\r\n")[1:] if line)
        assert sent["Authorization"] == "Bearer a-key"
        assert sent["Host"] == headers.get("Host", url.removeprefix("http://"))


@pytest.mark.parametrize("name", PROXIES)
def test_an_upload_is_sent_on_as_it_comes(name: str, tmp_path: Path) -> None:
    slow = Slow()
    with proxy(name, slow.address, tmp_path) as url:
        host, _, port = url.removeprefix("http://").partition(":")
        with socket.create_connection((host, int(port))) as client:
            client.sendall(f"POST / HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Length: 8\r\n\r\nhalf".encode())
            assert slow.asked.wait(PATIENCE / 4)
            client.sendall(b"half")
            slow.go_on.set()
            slow.thread.join(PATIENCE)


def test_nginx_takes_it_as_it_stands(tmp_path: Path) -> None:
    nginx_program, openssl = if_installed("nginx", "openssl")
    text = (DEPLOY / "nginx.conf").read_text().replace("/etc/ssl/pronk", str(tmp_path))
    subject = ["-subj", f"/CN={NAME}", "-keyout", tmp_path / "privkey.pem", "-out", tmp_path / "fullchain.pem"]
    subprocess.run(
        [openssl, "req", "-x509", "-nodes", "-newkey", "rsa:2048", *subject], check=True, capture_output=True
    )
    config = tmp_path / "nginx.conf"
    config.write_text(f"pid {tmp_path}/pid;\nevents {{}}\nhttp {{\naccess_log off;\n{text}\n}}\n")
    done = subprocess.run(
        [nginx_program, "-t", "-e", tmp_path / "log", "-c", config], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "warn" not in done.stderr
