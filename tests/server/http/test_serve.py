"""How a server process ends: always with exit code 0, and never with half an answer."""

import json
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.serving import LOOPBACK

PATIENCE = 30  # seconds that a test waits for what should take less than one


@dataclass
class Process:
    child: subprocess.Popen[str]
    url: str

    def signal(self, number: signal.Signals) -> None:
        self.child.send_signal(number)

    def wait(self) -> int:
        return self.child.wait(PATIENCE)


@contextmanager
def serving(root: Path, drain: float, *more: str) -> Iterator[Process]:
    command = [sys.executable, "-m", "tests.server.scripted_server", str(root), str(drain), *more]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    try:
        yield Process(child, f"http://127.0.0.1:{int(child.stdout.readline())}")
    finally:
        child.kill()
        child.wait()
        child.stdout.close()


def lines(answer: httpx.Response) -> Iterator[dict[str, Any]]:
    return (json.loads(line) for line in answer.iter_lines())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_idle_server_stops(tmp_path: Path, number: signal.Signals) -> None:
    with serving(tmp_path, 60) as process, httpx.Client(base_url=process.url, **LOOPBACK) as client:
        assert client.get("/api/version").status_code == 200
        process.signal(number)
        assert process.wait() == 0


def test_sigterm_lets_an_answer_finish(tmp_path: Path) -> None:
    with serving(tmp_path, 60) as process, httpx.Client(base_url=process.url, **LOOPBACK, timeout=60) as client:
        with client.stream("POST", "/api/generate", json={"model": "t", "prompt": "30"}) as answer:
            stream = lines(answer)
            assert next(stream)["response"] == "0"
            process.signal(signal.SIGTERM)
            assert list(stream)[-1]["done_reason"] == "stop"
        assert process.wait() == 0


@pytest.mark.parametrize(
    ("drain", "signals"),
    [(0.2, [signal.SIGTERM]), (60, [signal.SIGINT]), (60, [signal.SIGTERM, signal.SIGTERM])],
    ids=["too long", "SIGINT", "a second SIGTERM"],
)
def test_an_answer_that_is_ended_says_so(tmp_path: Path, drain: float, signals: list[signal.Signals]) -> None:
    with serving(tmp_path, drain) as process, httpx.Client(base_url=process.url, **LOOPBACK) as client:
        with client.stream("POST", "/api/generate", json={"model": "t", "prompt": "30000"}) as answer:
            stream = lines(answer)
            next(stream)
            process.signal(signals[0])
            for number in signals[1:]:
                for _ in range(10):
                    next(stream)  # it goes on: one signal is not enough
                process.signal(number)
            assert list(stream)[-1] == {"error": "server is shutting down"}
        assert process.wait() == 0


def test_nothing_new_is_accepted_while_answers_finish(tmp_path: Path) -> None:
    with serving(tmp_path, 60) as process, httpx.Client(base_url=process.url, **LOOPBACK) as client:
        with client.stream("POST", "/api/generate", json={"model": "t", "prompt": "30000"}) as answer:
            stream = lines(answer)
            next(stream)
            process.signal(signal.SIGTERM)
            for _ in range(10):
                next(stream)
            with httpx.Client(base_url=process.url, **LOOPBACK) as other, pytest.raises(httpx.ConnectError):
                other.get("/api/version")
            process.signal(signal.SIGINT)
        assert process.wait() == 0


def test_a_server_that_stops_is_not_ready(tmp_path: Path) -> None:
    with serving(tmp_path, 60) as process:
        port = int(process.url.rpartition(":")[2])
        body = b'{"model": "t", "prompt": "30"}'
        head = b"POST /api/generate HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body)
        with socket.create_connection(("127.0.0.1", port), PATIENCE) as connection:
            connection.sendall(head + body + b"GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            data = connection.recv(1 << 16)
            process.signal(signal.SIGTERM)
            while piece := connection.recv(1 << 16):
                data += piece
        assert process.wait() == 0
    first, second = data.split(b"HTTP/1.1 ")[1:]
    assert first.startswith(b"200 ")
    assert b'"done_reason":"stop"' in first
    assert second.startswith(b"503 ")
    assert second.endswith(b"the server is stopping")


def test_who_says_it_twice_is_not_kept_waiting(tmp_path: Path) -> None:
    with serving(tmp_path, 0, "stubborn") as process, httpx.Client(base_url=process.url, **LOOPBACK) as client:
        assert client.get("/api/version").status_code == 200
        process.signal(signal.SIGTERM)
        with pytest.raises(subprocess.TimeoutExpired):
            process.child.wait(0.5)
        process.signal(signal.SIGTERM)
        assert process.wait() == 0
