"""What is told on standard error while an answer or a load is waited for."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest

from cli.progress import follow_load, spinning, waits_for
from cli.reply import Reply
from tests.cli.conftest import COMMAND, Pronk, handled_by
from tests.cli.terminal import Terminal
from tests.serving import PATIENCE


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ({"stage": "queued", "position": 1}, "next in the queue"),
        ({"stage": "queued", "position": 1234}, "number 1,234 in the queue"),
        ({"stage": "loading", "completed": 0.0, "total": 1}, "loading the model"),
        ({"stage": "loading", "completed": 0.425, "total": 1}, "loading the model, 42%"),
        ({"stage": "loading", "completed": 1, "total": 1}, "loading the model, 100%"),
        ({"stage": "prompt", "completed": 512, "total": 2048, "cached": 0}, "reading 512 of 2,048 tokens"),
        ({"stage": "something new"}, ""),
        ({"stage": "queued", "position": "x"}, ""),
        ("what another server tells", ""),
        (5, ""),
    ],
)
def test_words(told: Any, words: str) -> None:
    assert waits_for(told) == words


def test_replies_that_tell_of_progress_are_kept_back(capsys: pytest.CaptureFixture[str]) -> None:
    told = [Reply({"progress": {"stage": "queued", "position": n}}) for n in (2, 1)]
    pieces = [Reply({"response": "a"}), Reply({"response": "b", "done": True})]
    assert [*spinning([*told, *pieces])] == pieces
    assert [*spinning(told)] == []
    assert [*spinning([])] == []
    follow_load([*told, *pieces])
    assert capsys.readouterr() == ("", ""), "there is no terminal"


class Other(BaseHTTPRequestHandler):
    """A server of Ollama's API that tells `progress`, none by default, and then waits until it `may_answer`."""

    asked: list[bytes]
    progress: list[bytes]
    may_answer: threading.Event

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.path == "/api/show":
            self._begin()
            self.wfile.write(b'{"model_info":{},"capabilities":["completion"]}')
            return
        self.asked.append(body)
        self._begin()
        for told in self.progress:
            self.wfile.write(b'{"response":"","done":false,"progress":' + told + b"}\n")
        self.may_answer.wait(PATIENCE)
        self.wfile.write(b'{"response":"Hi","done":false}\n{"response":"","done":true}\n')

    def _begin(self) -> None:
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def other() -> Iterator[str]:
    Other.asked, Other.progress, Other.may_answer = [], [], threading.Event()
    with handled_by(Other) as url:
        yield url
        Other.may_answer.set()


def test_what_is_told_at_a_terminal_is_wiped_away_before_the_answer(other: str, alone: Pronk) -> None:
    Other.progress = [b'{"stage":"queued","position":2}', b'{"stage":"prompt","completed":512,"total":2048}']
    with Terminal([*COMMAND, "run", "m", "Hello"], alone.environ | {"OLLAMA_HOST": other}) as terminal:
        terminal.see("reading 512 of 2,048 tokens")
        Other.may_answer.set()
        assert terminal.leave() == 0
    assert terminal.text.strip() == "Hi"
    told, wiped, answer = terminal.raw.rpartition("\x1b[2K")
    assert ("tokens" in told, wiped, answer.strip()[:2]) == (True, "\x1b[2K", "Hi")


def test_a_load_is_told_before_a_session(other: str, alone: Pronk) -> None:
    Other.progress = [b'{"stage":"loading","completed":0.4,"total":1}']
    with Terminal([*COMMAND, "run", "m"], alone.environ | {"OLLAMA_HOST": other}) as terminal:
        terminal.see("loading the model, 40%")
        Other.may_answer.set()
        terminal.expect(">>> ")
    assert "loading" not in terminal.text


def test_a_server_that_tells_nothing(other: str, alone: Pronk) -> None:
    Other.may_answer.set()
    with Terminal([*COMMAND, "run", "m", "Hello"], alone.environ | {"OLLAMA_HOST": other}) as terminal:
        assert terminal.leave() == 0
    assert terminal.text.strip() == "Hi"
    assert b'"progress": true' in Other.asked[0]


def test_where_nobody_would_see_it_nothing_is_asked_for(other: str, alone: Pronk) -> None:
    Other.may_answer.set()
    for words in (["Hello"], []):
        assert alone("run", "m", *words, OLLAMA_HOST=other).returncode == 0
    assert not any(b"progress" in body for body in Other.asked)


def test_a_real_server_at_a_terminal(pronk: Pronk) -> None:
    with Terminal([*COMMAND, "run", "tinychat", "--think=false", "Count to 5"], pronk.environ) as terminal:
        assert terminal.leave() == 0
    assert terminal.text.strip() == "1, 2, 3, 4, 5"
