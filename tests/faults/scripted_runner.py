"""A model's process that writes from a script instead of a model: `python -m tests.faults.scripted_runner FD`.

It speaks to the server as `engine.runner` does, so socket, messages and scheduler are the real ones, and costs next to
nothing. What stands between OPENING and CLOSING in a prompt is its answer, once, in pieces of some characters; to other
prompts it answers with words, as many as asked for. The first piece comes at once, then one in each pass for all
answers together. PRONK_RUNNER_PACE: seconds from pass to pass; 0 (the default): one follows the other.
"""

from __future__ import annotations

import itertools
import os
import select
import socket
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

from engine.messages import (
    FRAME_HEADER,
    Cancel,
    Chunk,
    Done,
    Failed,
    FromRunner,
    Hello,
    Loaded,
    LoadModel,
    Pause,
    Ping,
    Report,
    Resize,
    Resized,
    Submit,
    Tokenize,
    Tokens,
    ToRunner,
    frames,
    to_runner_decoder,
)
from engine.stats import NO_STATS

OPENING, CLOSING = "⟦", "⟧"
_MOST = 4  # characters of a piece
_WORD = "word "


@dataclass(slots=True)
class Answer:
    """An answer that is being written: the pieces that are left, and how many there were."""

    id: int
    pieces: Iterator[str]
    most: int
    tokens: int = 0
    rests: bool = False

    def step(self) -> list[FromRunner]:
        """Its next piece, or its end."""
        piece = next(self.pieces, None) if self.tokens != self.most else None
        if piece is None:
            reason = "length" if self.tokens == self.most else "stop"
            return [Done(self.id, reason, 8, 0, 1_000, self.tokens, 1_000 * self.tokens)]
        self.tokens += 1
        return [Chunk(self.id, piece, self.tokens)]


class ScriptedRunner:
    """Answers what comes over `sock`, until that is closed."""

    def __init__(self, sock: socket.socket, pace: float) -> None:
        self._sock = sock
        self._pace = pace
        self._answers: dict[int, Answer] = {}
        self._due = 0.0

    def run(self) -> None:
        """Load what is asked for, then answer. Raises EOFError when the server has gone."""
        self._send([Hello()])
        load = self._read()
        assert isinstance(load, LoadModel)
        self._send([Loaded(load.n_ctx, False, load.n_batch)])
        while True:
            waits = [] if self._writing else None
            timeout = None if waits is None else max(0.0, self._due - time.monotonic())
            if select.select([self._sock], [], [], timeout)[0]:
                self._take(self._read())
            elif self._writing:
                self._pass()

    @property
    def _writing(self) -> bool:
        return any(not answer.rests for answer in self._answers.values())

    def _pass(self) -> None:
        """A piece of each answer, in one message."""
        self._due = time.monotonic() + self._pace
        running = [answer for answer in self._answers.values() if not answer.rests]
        self._write(running)

    def _write(self, answers: list[Answer]) -> None:
        events = list(itertools.chain.from_iterable(answer.step() for answer in answers))
        for event in events:
            if isinstance(event, Done):
                del self._answers[event.id]
        self._send(events)

    def _take(self, message: ToRunner) -> None:
        match message:
            case Submit():
                answer = Answer(message.id, pieces(message.prompt), message.num_predict)
                self._answers[message.id] = answer
                self._write([answer])
            case Cancel():
                self._answers.pop(message.id, None)
            case Pause():
                if message.id in self._answers:
                    self._answers[message.id].rests = message.paused
            case Ping():
                self._send([Report(message.id, NO_STATS)])
            case Tokenize():
                count = -(-len(message.text) // _MOST)
                self._send([Tokens(message.id, count, bytes(4 * count) if count <= message.limit else b"")])
            case Resize():
                self._send([Resized(message.id, True)])
            case _:
                self._send([Failed(getattr(message, "id", 0), "internal", "there is no script for this")])

    def _send(self, events: list[FromRunner]) -> None:
        for frame in frames(events):
            self._sock.sendall(frame)

    def _read(self) -> ToRunner:
        (size,) = FRAME_HEADER.unpack(self._exactly(FRAME_HEADER.size))
        message: ToRunner = to_runner_decoder.decode(self._exactly(size))
        return message

    def _exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            if not (part := self._sock.recv(size - len(data))):
                raise EOFError
            data += part
        return data


def pieces(prompt: str) -> Iterator[str]:
    """The pieces of the answer to a prompt: the same for the same script, with borders anywhere between characters."""
    _, found, rest = prompt.partition(OPENING)
    if not found:
        return itertools.repeat(_WORD)
    return _divided(rest.partition(CLOSING)[0])


def _divided(text: str) -> Iterator[str]:
    dice = Random(text)
    at = 0
    while at < len(text):
        end = at + dice.randint(1, _MOST)
        yield text[at:end]
        at = end


def main() -> None:
    """Run until the server closes its end of the socket."""
    try:
        ScriptedRunner(socket.socket(fileno=int(sys.argv[1])), float(os.environ.get("PRONK_RUNNER_PACE", "0"))).run()
    except (EOFError, OSError):  # the server has gone
        os._exit(0)


if __name__ == "__main__":
    main()
