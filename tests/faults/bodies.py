"""R14: bodies at the bounds and beyond them, and what becomes of small requests beside them."""

from __future__ import annotations

import base64
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from server.http.json_input import MAX_VALUES
from tests.faults.measure import MIB, Counts, Line, anonymous, kept, timed
from tests.serving import LOOPBACK, PATIENCE, Served, serving

_LIMIT = 64 * MIB
_LARGE = 63 * MIB
_MODEL = b'"model":"tinychat","stream":false,"options":{"num_predict":1}'
_SHORT = {"model": "tinychat", "prompt": "Hi", "raw": True, "stream": False, "options": {"num_predict": 1}}
_REFUSED_WITHIN, _READ_WITHIN, _OTHERS_WITHIN = 0.1, 1.0, 0.1  # seconds


@dataclass(frozen=True, slots=True)
class Case:
    """A body, made when it is needed, and the statuses that it may get: the model is small and sees nothing.

    `quick`: it is tried in a quick look too.
    """

    name: str
    path: str
    make: Callable[[], bytes]
    statuses: Sequence[int]
    within: float
    quick: bool = False


@dataclass(slots=True)
class Outcome:
    """What became of it: seconds from the last byte to the answer, the longest waits beside it, growth in bytes."""

    status: int = 0
    answered: float = 0.0
    waited: float = 0.0
    chat_waited: float = 0.0
    growth: int = 0


def input_limits(folder: Path, counts: Counts) -> Iterator[Line]:
    """R14."""
    with serving(folder / "models") as server:
        for case in CASES:
            if counts.quick and not case.quick:
                continue
            outcome = _try(server, case)
            yield kept("R14", f"{case.name}: status {case.statuses[0]}", str(outcome.status), _right(outcome, case))
            goal = f"{case.name}: answered ≤ {case.within:g} s, others wait ≤ {_OTHERS_WITHIN:g} s, growth ≤ 128 MiB"
            measured = (
                f"{outcome.answered:.3f} s; /api/tags {outcome.waited:.3f} s, "
                f"a short prompt {outcome.chat_waited:.3f} s; {outcome.growth / MIB:.0f} MiB"
            )
            # Where the model runs the large one too, the short one shares its passes.
            waited = outcome.waited if outcome.status == 200 else max(outcome.waited, outcome.chat_waited)
            reached = outcome.answered <= case.within and waited <= _OTHERS_WITHIN
            yield timed("R14", goal, measured, reached and outcome.growth <= 2 * _LIMIT)


def _right(outcome: Outcome, case: Case) -> bool:
    return outcome.status in case.statuses


def _try(server: Served, case: Case) -> Outcome:
    body = case.make()
    outcome = Outcome()
    with httpx.Client(base_url=server.url, **LOOPBACK, timeout=PATIENCE) as client:
        client.post("/api/generate", json={"model": "tinychat", "keep_alive": "1h"}).raise_for_status()
        for _ in range(20):
            client.get("/api/tags").raise_for_status()
            client.post("/api/generate", json=_SHORT).raise_for_status()
        before = anonymous(server.process.pid)
        sender = threading.Thread(target=_send, args=(server, case.path, body, outcome))
        sender.start()
        while sender.is_alive():
            outcome.waited = max(outcome.waited, _wait(lambda: client.get("/api/tags")))
            outcome.chat_waited = max(outcome.chat_waited, _wait(lambda: client.post("/api/generate", json=_SHORT)))
            outcome.growth = max(outcome.growth, anonymous(server.process.pid) - before)
    return outcome


def _wait(ask: Callable[[], httpx.Response]) -> float:
    started = time.monotonic()
    ask().raise_for_status()
    return time.monotonic() - started


def _send(server: Served, path: str, body: bytes, outcome: Outcome) -> None:
    """Send a request; a server may answer before it has read it all."""
    address = urlsplit(server.url)
    head = f"POST {path} HTTP/1.1\r\nHost: {address.netloc}\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
    with socket.create_connection((str(address.hostname), int(address.port or 0)), PATIENCE) as sock:
        try:
            sock.sendall(head.encode())
            sock.sendall(body)
        except (BrokenPipeError, ConnectionResetError):
            pass
        sent = time.monotonic()
        try:
            outcome.status = int(sock.recv(64).split()[1])
        except (ConnectionResetError, IndexError):
            outcome.status = 0
        outcome.answered = time.monotonic() - sent


def _filled(before: bytes, unit: bytes, after: bytes, size: int = _LARGE) -> bytes:
    return before + unit * ((size - len(before) - len(after)) // len(unit)) + after


def _values(unit: bytes, *, broken: bool = False) -> Callable[[], bytes]:
    return lambda: _filled(b"{" + _MODEL + b',"prompt":"Hi","format":[', unit + b",", b"!" if broken else unit + b"]}")


def _numbers(count: int) -> Callable[[], bytes]:
    return lambda: b"{" + _MODEL + b',"prompt":"Hi","context":[' + b",".join([b"2037"] * count) + b"]}"


def _prompt(unit: bytes, size: int) -> Callable[[], bytes]:
    return lambda: _filled(b"{" + _MODEL + b',"prompt":"', unit, b'"}', size)


def _messages() -> bytes:
    text = "word, and another\n" * 840
    return b"{" + _MODEL + b',"messages":' + json.dumps([{"role": "user", "content": text}] * 4096).encode() + b"}"


def _images() -> bytes:
    picture = base64.b64encode(bytes(range(256)) * (15 * MIB // 256)).decode()
    message = {"role": "user", "content": "Hi", "images": [picture] * 3}
    return b"{" + _MODEL + b',"messages":' + json.dumps([message]).encode() + b"}"


CASES = (
    # First what takes long: a tokenizer has much to do with it, and does so beside others.
    Case("a prompt of 4 MB of blanks", "/api/generate", _prompt(b" ", 4_000_000), (200, 400), PATIENCE),
    Case("nothing large", "/api/generate", _prompt(b"word, ", 1000), (200,), _READ_WITHIN, quick=True),
    Case("63 MiB of empty lists", "/api/generate", _values(b"[]"), (400,), _REFUSED_WITHIN, quick=True),
    Case("63 MiB of empty objects", "/api/generate", _values(b"{}"), (400,), _REFUSED_WITHIN),
    Case("lists, broken at the end", "/api/generate", _values(b"[]", broken=True), (400,), _REFUSED_WITHIN),
    Case(
        "objects, broken at the end", "/api/generate", _values(b"{}", broken=True), (400,), _REFUSED_WITHIN, quick=True
    ),
    Case("5 million numbers in `context`", "/api/generate", _numbers(5_000_000), (400,), _REFUSED_WITHIN),
    Case("as many numbers as are taken", "/api/generate", _numbers(MAX_VALUES - 20), (200,), _READ_WITHIN, quick=True),
    Case("a prompt of 60 MiB", "/api/generate", _prompt(b"word, ", 60 * MIB), (400,), _READ_WITHIN, quick=True),
    Case("a prompt of escapes, 60 MiB", "/api/generate", _prompt(rb"\u4e2d\n", 60 * MIB), (400,), _READ_WITHIN),
    Case("4,096 messages, 63 MiB", "/api/chat", _messages, (400,), _READ_WITHIN),
    Case("three pictures of 15 MiB", "/api/chat", _images, (400,), _READ_WITHIN, quick=True),
)
