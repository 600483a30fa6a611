"""Streams answers from an Ollama-compatible server and records the arrival time of each line.

It shares two cores with the server under test, and a general HTTP client costs more per token than our server. So it is
a uvloop protocol with httptools' C parser that only records bytes and times; JSON is decoded after all streams ended.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

import httptools
import uvloop

from bench.options import request_options
from bench.run import Run

HTTP_OK = 200


class BadAnswer(RuntimeError):
    """The server refused, broke off, or sent another number of tokens than requested."""


class Stream(asyncio.Protocol):
    """One request and its streamed answer. `ended` is set when either end closes the connection."""

    def __init__(self, request: bytes) -> None:
        self.ended = asyncio.Event()
        self._request = request
        self._parser = httptools.HttpResponseParser(self)
        self._parts: list[tuple[float, bytes]] = []
        self._now = 0.0
        self._complete = False
        self._transport: asyncio.Transport | None = None

    async def ask(self, host: str, port: int) -> None:
        """Connect and send the request. Raises OSError."""
        self._transport, _ = await asyncio.get_running_loop().create_connection(lambda: self, host, port)
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        """Called by the event loop: bytes of the answer."""
        self._now = time.perf_counter()
        self._parser.feed_data(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by the event loop: the connection is closed."""
        self.ended.set()

    def on_body(self, body: bytes) -> None:
        """Called by the parser: a piece of the answer without its framing."""
        self._parts.append((self._now, body))

    def on_message_complete(self) -> None:
        """Called by the parser: that was the last piece."""
        self._complete = True
        assert self._transport is not None
        self._transport.close()

    def lines(self) -> list[tuple[float, bytes]]:
        """The lines of the answer, each with the time of its last byte. Raises BadAnswer unless it is a whole 200."""
        body = b"".join(part for _, part in self._parts)
        if not self._complete:
            raise BadAnswer(f"the connection was lost after {len(body)} bytes")
        if (status := self._parser.get_status_code()) != HTTP_OK:
            raise BadAnswer(f"{status}: {body.decode('utf-8', 'replace')}")
        if not (lines := split_lines(self._parts)):
            raise BadAnswer("the answer is empty")
        return lines


class Client:
    """A `Side`: one model of the server at `url`. Every run opens new connections."""

    def __init__(self, url: str, model: str) -> None:
        address = urlsplit(url)
        assert address.hostname is not None
        self._host, self._port = address.hostname, address.port or 80
        self._model = model

    def run(self, prompts: Sequence[str], n_tokens: int) -> Run:
        """All prompts at once, one stream each. Raises BadAnswer or OSError."""
        return uvloop.run(self._run(prompts, n_tokens))

    async def _run(self, prompts: Sequence[str], n_tokens: int) -> Run:
        streams = [Stream(self._request(prompt, n_tokens)) for prompt in prompts]
        started = time.perf_counter()
        await asyncio.gather(*(stream.ask(self._host, self._port) for stream in streams))
        for stream in streams:
            await stream.ended.wait()
        answers = [stream.lines() for stream in streams]
        return Run(
            first=tuple(lines[0][0] - started for lines in answers),
            end=tuple(lines[-1][0] - started for lines in answers),
            tokens=tuple(checked_count(lines[-1][1], n_tokens) for lines in answers),
        )

    def _request(self, prompt: str, n_tokens: int) -> bytes:
        fields = {"model": self._model, "prompt": prompt, "raw": True, "options": request_options(n_tokens)}
        body = json.dumps(fields).encode()
        head = (
            f"POST /api/generate HTTP/1.1\r\nHost: {self._host}:{self._port}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body


def split_lines(parts: Sequence[tuple[float, bytes]]) -> list[tuple[float, bytes]]:
    """Split pieces into lines, each with the time of the piece that completed it."""
    lines, rest = [], b""
    for when, part in parts:
        *whole, rest = (rest + part).split(b"\n")
        lines += [(when, line) for line in whole]
    return lines


def checked_count(last_line: bytes, expected: int) -> int:
    """The token count in the final object. Raises BadAnswer unless it is `expected`."""
    final: dict[str, Any] = json.loads(last_line)
    if "error" in final:
        raise BadAnswer(str(final["error"]))
    if (count := int(final.get("eval_count", 0))) != expected:
        raise BadAnswer(f"asked for {expected} tokens, got {count} ({final.get('done_reason', 'no end')})")
    return count
