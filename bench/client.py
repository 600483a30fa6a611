"""Streams answers from a server and records the arrival time of each line.

It shares two cores with the server under test, and a general HTTP client costs more per token than our server. So it is
a uvloop protocol with httptools' C parser that only records bytes and times; JSON is decoded after a stream has ended.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import cast
from urllib.parse import urlsplit

import httptools
import uvloop

from bench.dialects import OLLAMA, Dialect, Piece, Post, Request
from bench.run import Run

HTTP_OK = 200


class BadAnswer(RuntimeError):
    """The server refused, broke off, or sent another number of tokens than requested."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A streamed answer. Times are seconds of `time.perf_counter`: `asked`, of each piece of text, and of the end."""

    asked: float
    arrivals: tuple[float, ...]
    end: float
    text: str

    @property
    def first(self) -> float:
        """Seconds to the first text, or to the end if there was none."""
        return (self.arrivals or (self.end,))[0] - self.asked

    @property
    def gaps(self) -> list[tuple[float, float]]:
        """Between each two pieces of text: when the later one came, and after how many seconds."""
        return [(later, later - earlier) for earlier, later in pairwise(self.arrivals)]


class Stream(asyncio.Protocol):
    """One request and its streamed answer. `ended` is set when either end closes the connection."""

    def __init__(self, request: bytes) -> None:
        self.ended = asyncio.Event()
        self.asked = 0.0
        self._request = request
        self._parser = httptools.HttpResponseParser(self)
        self._parts: list[tuple[float, bytes]] = []
        self._now = 0.0
        self._complete = False
        self._mark = 0
        self._marked = asyncio.Event()
        self._transport: asyncio.Transport | None = None

    async def ask(self, host: str, port: int) -> None:
        """Connect and send the request. Raises OSError."""
        self.asked = time.perf_counter()
        await asyncio.get_running_loop().create_connection(lambda: self, host, port)

    async def reached(self, parts: int) -> None:
        """Wait until that many parts of the answer have come, or its end."""
        self._mark = parts
        if len(self._parts) < parts and not self.ended.is_set():
            self._marked.clear()
            await self._marked.wait()

    async def leave(self) -> None:
        """Close the connection, wherever the answer is."""
        assert self._transport is not None
        self._transport.abort()
        await self.ended.wait()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the event loop: the connection is open."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's has another base class
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        """Called by the event loop: bytes of the answer."""
        self._now = time.perf_counter()
        self._parser.feed_data(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by the event loop: the connection is closed."""
        self.ended.set()
        self._marked.set()

    def on_body(self, body: bytes) -> None:
        """Called by the parser: a piece of the answer without its framing."""
        self._parts.append((self._now, body))
        if len(self._parts) == self._mark:
            self._marked.set()

    def on_message_complete(self) -> None:
        """Called by the parser: that was the last piece."""
        self._complete = True
        assert self._transport is not None
        self._transport.close()

    def check(self, *, whole: bool = True) -> None:
        """Raise BadAnswer if the answer is no 200, or, if it must be `whole`, not complete."""
        body = b"".join(part for _, part in self._parts)
        if whole and not self._complete:
            raise BadAnswer(f"the connection was lost after {len(body)} bytes")
        if (status := self._parser.get_status_code()) != HTTP_OK:
            raise BadAnswer(f"{status}: {body.decode('utf-8', 'replace')}")

    def lines(self, *, whole: bool = True) -> list[tuple[float, bytes]]:
        """The lines of the answer, each with the time of its last byte. Raises BadAnswer as `check` does."""
        self.check(whole=whole)
        if not (lines := split_lines(self._parts)):
            raise BadAnswer("the answer is empty")
        return lines


class Client:
    """A `Side`: one model of the server at `url`. Every request opens a new connection."""

    def __init__(self, url: str, model: str, dialect: Dialect = OLLAMA) -> None:
        address = urlsplit(url)
        assert address.hostname is not None
        self._host, self._port = address.hostname, address.port or 80
        self._model = model
        self._dialect = dialect

    def run(self, prompts: Sequence[str], n_tokens: int) -> Run:
        """All prompts at once, one stream each. Raises BadAnswer or OSError."""
        return uvloop.run(self._run(prompts, n_tokens))

    async def open(self, request: Request) -> Stream:
        """Send a request. Raises OSError."""
        return await self._send(self._dialect.ask(self._model, request))

    async def answer(self, stream: Stream, request: Request) -> Answer:
        """Wait for the end of an answer. Raises BadAnswer unless it has as many tokens as requested."""
        await stream.ended.wait()
        return self._read(stream.asked, stream.lines(), request.tokens)

    async def ask(self, request: Request) -> Answer:
        """Send a request and wait for the end of its answer. Raises BadAnswer or OSError."""
        return await self.answer(await self.open(request), request)

    async def ask_for(self, request: Request, pieces: int) -> Answer:
        """The first pieces of an answer that would have more; the client leaves. Raises BadAnswer or OSError."""
        stream = await self.open(request)
        await stream.reached(pieces + 1)  # some servers begin with a part that has no text
        answer = await self.leave(stream)
        if len(answer.arrivals) < pieces:
            raise BadAnswer(f"wanted {pieces} pieces of an answer, got {len(answer.arrivals)}: {answer.text}")
        return answer

    async def leave(self, stream: Stream) -> Answer:
        """Leave a stream; returns what there is of its answer. Raises BadAnswer."""
        await stream.leave()
        return self._read(stream.asked, stream.lines(whole=False))

    async def embed(self, text: str) -> None:
        """One embedding. Raises BadAnswer or OSError."""
        stream = await self._send(self._dialect.embed(self._model, text))
        await stream.ended.wait()
        stream.check()

    async def _run(self, prompts: Sequence[str], n_tokens: int) -> Run:
        requests = [Request(n_tokens, prompt) for prompt in prompts]
        started = time.perf_counter()
        streams = await asyncio.gather(*(self.open(request) for request in requests))
        for stream in streams:
            await stream.ended.wait()
        answers = [self._read(started, stream.lines(), n_tokens) for stream in streams]
        return Run(
            first=tuple(answer.first for answer in answers),
            end=tuple(answer.end - started for answer in answers),
            tokens=(n_tokens,) * len(answers),
        )

    async def _send(self, post: Post) -> Stream:
        path, fields = post
        body = json.dumps(fields).encode()
        head = (
            f"POST {path} HTTP/1.1\r\nHost: {self._host}:{self._port}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        stream = Stream(head.encode() + body)
        await stream.ask(self._host, self._port)
        return stream

    def _read(self, asked: float, lines: Sequence[tuple[float, bytes]], expected: int | None = None) -> Answer:
        pieces = [(when, self._dialect.read(line)) for when, line in lines]
        check([piece for _, piece in pieces], expected)
        arrivals = tuple(when for when, piece in pieces if piece.text)
        return Answer(asked, arrivals, lines[-1][0], "".join(piece.text for _, piece in pieces))


def split_lines(parts: Sequence[tuple[float, bytes]]) -> list[tuple[float, bytes]]:
    """Split pieces into lines that are not blank, each with the time of the piece that completed it."""
    lines, rest = [], b""
    for when, part in parts:
        *whole, rest = (rest + part).split(b"\n")
        lines += [(when, line) for line in whole if line.strip()]
    return lines


def check(pieces: Sequence[Piece], expected: int | None = None) -> None:
    """Raise BadAnswer if a piece is an error, or unless the answer ended with `expected` tokens."""
    if error := next((piece.error for piece in pieces if piece.error), ""):
        raise BadAnswer(error)
    count = next((piece.tokens for piece in reversed(pieces) if piece.tokens is not None), 0)
    if expected not in (None, count):
        raise BadAnswer(f"asked for {expected} tokens, got {count}")
