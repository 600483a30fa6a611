"""The client against small servers on a socket: what it times, what it refuses."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
import uvloop

from bench.client import Answer, BadAnswer, Client, check, split_lines
from bench.dialects import Piece, Request
from tests.bench.scripted import HEAD, Scripted, Send, chunk, scripted

TOKEN = b'{"response":"a","done":false}\n'


def final(count: int) -> bytes:
    return json.dumps({"response": "", "done": True, "done_reason": "length", "eval_count": count}).encode() + b"\n"


@pytest.fixture
def server() -> Iterator[Scripted]:
    with scripted() as server:
        yield server


class Clock:
    """A clock that goes on when it is told. Tells when it has been read."""

    def __init__(self) -> None:
        self.now = 0.0
        self.read = threading.Event()

    def __call__(self) -> float:
        self.read.set()
        return self.now

    def go_on(self) -> None:
        self.read.clear()
        self.now += 1


def test_a_stream_is_timed(server: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr("bench.client.time", SimpleNamespace(perf_counter=clock))

    def script(send: Send) -> None:
        clock.go_on()
        send(HEAD + chunk(TOKEN))
        assert clock.read.wait(30)
        clock.go_on()
        send(chunk(TOKEN + TOKEN) + chunk(final(3)) + b"0\r\n\r\n")

    server.script = script
    run = Client(server.url, "m").run(["p"], 3)
    assert (run.tokens, run.first, run.end) == ((3,), (1.0,), (2.0,))


def test_several_streams(server: Scripted) -> None:
    server.script = lambda send: send(HEAD + chunk(TOKEN * 3) + chunk(final(3)) + b"0\r\n\r\n")
    run = Client(server.url, "m").run(["p", "q"], 3)
    assert run.tokens == (3, 3)
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
        check([Piece("a"), Piece(tokens=12)], 64)


def test_who_leaves_has_the_pieces_that_came(server: Scripted) -> None:
    left = threading.Event()

    def script(send: Send) -> None:
        send(HEAD + chunk(TOKEN) + chunk(TOKEN) + chunk(TOKEN))
        try:
            while True:
                time.sleep(0.01)
                send(chunk(TOKEN))
        except OSError:
            left.set()

    server.script = script
    answer = uvloop.run(Client(server.url, "m").ask_for(Request(64, "p"), 2))
    assert len(answer.arrivals) >= 2
    assert answer.text == "a" * len(answer.arrivals)
    assert left.wait(30)


def test_an_answer_that_ends_before_its_pieces_came_is_no_result(server: Scripted) -> None:
    server.script = lambda send: send(HEAD + chunk(TOKEN) + chunk(final(1)) + b"0\r\n\r\n")
    with pytest.raises(BadAnswer, match="wanted 2 pieces of an answer, got 1: a"):
        uvloop.run(Client(server.url, "m").ask_for(Request(64, "p"), 2))


def test_times_of_an_answer() -> None:
    answer = Answer(asked=1.0, arrivals=(3.0, 4.0, 6.0), end=7.0, text="abc")
    assert answer.first == 2.0
    assert answer.gaps == [(4.0, 1.0), (6.0, 2.0)]
    assert Answer(asked=1.0, arrivals=(), end=7.0, text="").first == 6.0


def test_lines_across_pieces() -> None:
    parts = [(1.0, b'{"a"'), (2.0, b':1}\n\n{"b":2}\n{'), (3.0, b'"c":3}\n')]
    assert split_lines(parts) == [(2.0, b'{"a":1}'), (2.0, b'{"b":2}'), (3.0, b'{"c":3}')]
