"""How records become lines."""

import json
import logging
import os
import sys
import threading
from collections.abc import Iterator

import pytest

from registry.logfields import REQUEST_ID, TRACE, fields
from server import log


class Stream:
    """All that was written to standard error so far."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys
        self._text = ""

    def getvalue(self) -> str:
        self._text += self._capsys.readouterr().err
        return self._text


@pytest.fixture
def stream(capsys: pytest.CaptureFixture[str]) -> Iterator[Stream]:
    """Standard error; the log of the test itself is put back afterwards."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    libraries = {name: logging.getLogger(name).level for name in log._LIBRARIES}
    yield Stream(capsys)
    root.handlers[:] = handlers
    root.setLevel(level)
    for name, before in libraries.items():
        logging.getLogger(name).setLevel(before)


def record(message: str, *args: object, level: int = logging.INFO, exc_info: bool = False, **values: object) -> None:
    logging.getLogger("pronk.test").log(level, message, *args, exc_info=exc_info, extra=fields(**values))


def test_text(stream: Stream) -> None:
    log.configure(0)
    record("loaded %s", "it", model="a/b:c", tokens=3, seconds=0.12345, none=None, path="/x y", odd='"\n\x1b\u2028')
    time, rest = stream.getvalue().split(" ", 1)
    assert time.startswith("time=20")
    assert time.endswith("Z")
    said = r"""level=INFO loaded it model='a/b:c' tokens=3 seconds=0.123 path='/x y' odd='"\n\x1b\u2028'"""
    assert rest == said + "\n"


def test_a_client_cannot_fill_the_log(stream: Stream) -> None:
    log.configure(2)
    record("failed %s", "m" * 100_000, reason="r" * 100_000)
    record("prompt", level=TRACE, text="p" * 100_000)
    first, second = stream.getvalue().splitlines()
    assert len(first) < 10_000
    assert len(second) > 100_000


def test_a_message_is_one_line_whatever_is_in_it(stream: Stream) -> None:
    log.configure(0)
    record("first\nlevel=ERROR second \x1b[31m größer")
    assert stream.getvalue().count("\n") == 1
    assert r"first\nlevel=ERROR second \x1b[31m größer" in stream.getvalue()


def test_json_has_the_same_in_one_object(stream: Stream) -> None:
    log.configure(0, "json")
    record("loaded\nit", model="a/b:c", tokens=3, seconds=0.12345, none=None)
    (line,) = stream.getvalue().splitlines()
    values = json.loads(line)
    assert values.pop("time").startswith("20")
    assert values == {
        "level": "INFO",
        "logger": "pronk.test",
        "message": "loaded\nit",
        "model": "a/b:c",
        "tokens": 3,
        "seconds": 0.123,
    }


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_traceback(stream: Stream, form: str) -> None:
    log.configure(0, form)
    try:
        raise ValueError("broken")
    except ValueError:
        record("it failed", exc_info=True)
    first, *rest = stream.getvalue().splitlines()
    if form == "json":
        assert not rest
        assert json.loads(first)["exception"].endswith("ValueError: broken")
    else:
        assert rest[-1] == "ValueError: broken"


def test_every_record_has_the_id_of_its_request(stream: Stream) -> None:
    log.configure(0)
    token = REQUEST_ID.set("abc")
    record("one", a=1)
    logging.getLogger("pronk.test").info("two")
    record("three", request_id="other")
    REQUEST_ID.reset(token)
    record("four")
    ends = [line.split("level=INFO ")[1] for line in stream.getvalue().splitlines()]
    assert ends == ["one a=1 request_id=abc", "two request_id=abc", "three request_id=other", "four"]


@pytest.mark.parametrize(
    ("debug", "seen"), [(0, ["INFO"]), (1, ["INFO", "DEBUG"]), (2, ["INFO", "DEBUG", "TRACE"]), (7, None)]
)
def test_levels(stream: Stream, debug: int, seen: list[str] | None) -> None:
    log.configure(debug)
    for level in (logging.INFO, logging.DEBUG, TRACE):
        record("x", level=level)
    levels = [line.split()[1].removeprefix("level=") for line in stream.getvalue().splitlines()]
    assert levels == (seen or ["INFO", "DEBUG", "TRACE"])


def test_libraries_say_little_unless_all_is_wanted(stream: Stream) -> None:
    for debug, lines in ((0, 0), (1, 0), (2, 1)):
        log.configure(debug)
        logging.getLogger("httpx").info("HTTP Request")
        assert stream.getvalue().count("HTTP Request") == lines


def test_what_the_runners_log_follows_the_server() -> None:
    assert log.runner_level({}, 0) == {"PRONK_RUNNER_LOG": "info"}
    assert log.runner_level({}, 2) == {"PRONK_RUNNER_LOG": "trace"}
    assert log.runner_level({"PRONK_RUNNER_LOG": "error"}, 1) == {"PRONK_RUNNER_LOG": "error"}


@pytest.fixture
def pipe(stream: Stream, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """Standard error is a pipe, of which this end can be read."""
    reader, writer = os.pipe()
    with os.fdopen(writer, "w") as stderr:
        monkeypatch.setattr(sys, "stderr", stderr)
        log.configure(0)
        yield reader
        os.close(reader)


def read_all(pipe: int, end: str) -> list[str]:
    """All lines in a pipe, up to one that ends so."""
    data = b""
    while not data.endswith(f"{end}\n".encode()):
        data += os.read(pipe, 1 << 16)
    return data.decode().splitlines()


def test_a_log_that_is_read_is_written_at_once(pipe: int) -> None:
    before = set(threading.enumerate())  # writers of other logs may end late
    record("hello")
    assert os.read(pipe, 1 << 16).endswith(b" hello\n")
    assert not [thread for thread in threading.enumerate() if thread not in before]


def test_a_log_that_nobody_reads_holds_up_nobody(pipe: int) -> None:
    lines = 3000

    def write() -> None:
        for number in range(lines):
            record("line %d", number, text="x" * 3000)

    writing = threading.Thread(target=write, daemon=True)
    writing.start()
    writing.join(60)
    assert not writing.is_alive()
    read = read_all(pipe, f"line {lines - 1} text={'x' * 3000}")
    assert [line.split()[3] for line in read] == [str(number) for number in range(lines)], "in order, and whole"
    record("later")
    assert read_all(pipe, "later")


def test_a_log_that_nobody_reads_for_long_loses_lines_and_tells_how_many(
    pipe: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log, "MOST_WAITING", 10)
    for number in range(500):
        record("line %d", number, text="x" * 3000)
    read = read_all(pipe, "log records dropped: standard error was not read")
    dropped = int(read[-1].split()[2])
    assert len(read) - 1 + dropped == 500
    numbers = [int(line.split()[3]) for line in read[:-1]]
    assert numbers == sorted(set(numbers))


def test_a_log_whose_reader_has_gone_harms_nobody(stream: Stream, monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as stderr:
        monkeypatch.setattr(sys, "stderr", stderr)
        log.configure(0)
        for _ in range(100):
            record("hello", text="x" * 3000)
