"""The client against small servers on a socket: what it times, what it refuses."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator

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


def test_every_stream_is_timed(server: Scripted) -> None:
    def script(send: Send) -> None:
        time.sleep(0.05)
        send(HEAD + chunk(TOKEN))
        time.sleep(0.5)
        send(chunk(TOKEN + TOKEN) + chunk(final(3)) + b"0\r\n\r\n")

    server.script = script
    run = Client(server.url, "m").run(["p", "q"], 3)
    assert run.tokens == (3, 3)
    assert all(0.05 <= first < end and end >= 0.55 for first, end in zip(run.first, run.end, strict=True))
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
