"""The child's log on its way to the server."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator

import pytest

from engine.messages import FromRunner, LogLine, encode_frame, take_events
from engine.runner.log import MAX_WAITING, ForwardingHandler, line_of
from registry.logfields import fields


def record(message: str, *args: object, **values: object) -> logging.LogRecord:
    logger = logging.getLogger("pronk.runner")
    return logger.makeRecord(logger.name, logging.DEBUG, "", 0, message, args, None, extra=fields(**values))


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """Sending waits for this."""
    gate = threading.Event()
    yield gate
    gate.set()


def test_a_record_becomes_a_message_that_can_be_sent() -> None:
    line = line_of(record("loaded %s", "\ud800", n=1, share=0.5, done=True, path=ValueError("x"), none=None))
    assert line.message == "loaded ?"
    assert line.fields == {"n": 1, "share": 0.5, "done": True, "path": "x"}
    assert list(take_events(bytearray(encode_frame([line])))) == [line]


def test_nobody_who_logs_waits_for_the_server(gate: threading.Event) -> None:
    sent: list[FromRunner] = []

    def send(lines: list[FromRunner]) -> None:
        gate.wait()
        sent.extend(lines)

    handler = ForwardingHandler(send)
    for number in range(MAX_WAITING + 100):
        handler.handle(record("line", n=number))
    gate.set()
    handler.flush()
    numbers = [line.fields["n"] for line in sent if isinstance(line, LogLine)]
    assert numbers == sorted(numbers)
    assert numbers[-1] == MAX_WAITING + 99
    assert MAX_WAITING <= len(numbers) <= MAX_WAITING + 100


def test_a_flush_sends_all_before_it_returns() -> None:
    sent: list[FromRunner] = []
    handler = ForwardingHandler(sent.extend)
    for number in range(1000):
        handler.handle(record("line", n=number))
        handler.flush()
        assert len(sent) == number + 1
