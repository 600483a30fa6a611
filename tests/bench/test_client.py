"""The client against small servers on a socket: what it times, what it refuses."""

from __future__ import annotations

import json
import socketserver
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from bench.client import BadAnswer, Client, checked_count, split_lines

Send = Callable[[bytes], object]
Script = Callable[[Send], object]
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n"
TOKEN = b'{"response":"a","done":false}\n'


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def final(count: int) -> bytes:
    return json.dumps({"response": "", "done": True, "done_reason": "length", "eval_count": count}).encode() + b"\n"


class Scripted(socketserver.ThreadingTCPServer):
    """Reads each request, keeps its body, and answers as its script says."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.script: Script = lambda send: None
        self.bodies: list[dict[str, object]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(socketserver.StreamRequestHandler):
    """One connection with one request."""

    def handle(self) -> None:
        length = 0
        while (line := self.rfile.readline().strip().lower()) != b"":
            if line.startswith(b"content-length:"):
                length = int(line.split(b":")[1])
        assert isinstance(self.server, Scripted)
        self.server.bodies.append(json.loads(self.rfile.read(length)))
        self.server.script(self.wfile.write)


@pytest.fixture
def server() -> Iterator[Scripted]:
    with Scripted() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_every_stream_is_timed(server: Scripted) -> None:
    def script(send: Send) -> None:
        time.sleep(0.05)
        send(HEAD + chunk(TOKEN))
        time.sleep(0.05)
        send(chunk(TOKEN + TOKEN) + chunk(final(3)) + b"0\r\n\r\n")

    server.script = script
    run = Client(server.url, "m").run(["p", "q"], 3)
    assert run.tokens == (3, 3)
    assert all(0.05 <= first <= end - 0.05 for first, end in zip(run.first, run.end, strict=True))
    assert sorted(str(body["prompt"]) for body in server.bodies) == ["p", "q"]
    assert all(body["raw"] is True and body["model"] == "m" for body in server.bodies)


def test_a_refusal_is_told(server: Scripted) -> None:
    server.script = lambda send: send(b'HTTP/1.1 404 Not Found\r\nContent-Length: 14\r\n\r\n{"error":"no"}')
    with pytest.raises(BadAnswer, match="404"):
        Client(server.url, "m").run(["p"], 3)


def test_an_error_on_the_way_is_told(server: Scripted) -> None:
    server.script = lambda send: send(HEAD + chunk(TOKEN) + chunk(b'{"error":"the runner died"}\n') + b"0\r\n\r\n")
    with pytest.raises(BadAnswer, match="the runner died"):
        Client(server.url, "m").run(["p"], 3)


def test_a_broken_stream_is_no_result(server: Scripted) -> None:
    server.script = lambda send: send(HEAD + chunk(TOKEN))
    with pytest.raises(BadAnswer, match="lost"):
        Client(server.url, "m").run(["p"], 3)


def test_a_short_answer_is_no_result() -> None:
    with pytest.raises(BadAnswer, match="asked for 64 tokens, got 12"):
        checked_count(final(12), 64)


def test_lines_across_pieces() -> None:
    parts = [(1.0, b'{"a"'), (2.0, b':1}\n{"b":2}\n{'), (3.0, b'"c":3}\n')]
    assert split_lines(parts) == [(2.0, b'{"a":1}'), (2.0, b'{"b":2}'), (3.0, b'{"c":3}')]
