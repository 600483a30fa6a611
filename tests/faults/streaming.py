"""R21: however a request arrives and however its answer is read, the answer is the same, whole and valid.

Requests come in one piece, byte by byte, in segments that cut characters and headers, or as chunks of any size, alone
on their connection or several behind each other. Answers are read at once, byte by byte, late, or with rests. Most are
written by a script, of characters of up to four bytes; some by a real model that is held to such texts, whose tokens
are bytes of characters.
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import uvloop

from tests.faults.measure import Counts, Line, kept
from tests.faults.scripted_runner import CLOSING, OPENING
from tests.faults.stream_checks import API, APIS, Violation
from tests.faults.streams import PATIENCE
from tests.serving import Served, serving

_AT_ONCE = 16  # connections
_MOST_BEHIND = 3  # requests on a connection
_LONG = 100  # one of so many scripts is a long one
_LONG_SCRIPT = 4000  # characters
_SIGNS = ("aé", "ß", "π", "Ж", "ש", "ب", "ก", "中文", "かな", "한", "€", "\u2028", "\u2029", "\x85", "\u200d", "\ufeff")
_WIDE = ("😀", "👩\u200d👩\u200d👧", "🇪🇺", "👍🏽", "𝔘", "𠜎", "e\u0301", "\U0010fffd")
_PLAIN = ("a ", "word ", "\n", "\t", '"', "\\", "{", "}", "data: ", "[DONE]", "\r\n", "\\u00e9", "\x7f", "0\r\n")
_TEXTS = ("Grüße, 中文 😀!", "👩\u200d👩\u200d👧 🇪🇺 e\u0301", "שלום Ж 한 𠜎", "\U0010fffd€ñ 👍🏽")
_WAYS = ("in one piece", "byte by byte", "in segments", "in chunks", "in chunks, in segments")
_RHYTHMS = ("at once", "byte by byte", "in pieces", "late, then at once", "with rests")


@dataclass(frozen=True, slots=True)
class Asked:
    """A request, and the text that its answer must have."""

    api: API
    body: bytes
    text: str


def streaming(folder: Path, counts: Counts) -> Iterator[Line]:
    """R21."""
    with serving(
        folder / "scripted", module="tests.faults.scripted", new=True, OLLAMA_NUM_PARALLEL="64", OLLAMA_KEEP_ALIVE="-1"
    ) as server:
        yield from uvloop.run(_tried(server, counts.streams, "scripted", _scripted))
    with serving(folder / "models", new=True, OLLAMA_NUM_PARALLEL="8", OLLAMA_KEEP_ALIVE="-1") as server:
        yield from uvloop.run(_tried(server, counts.real_streams, "of a model", _held))


async def _tried(server: Served, count: int, kind: str, ask: Any) -> list[Line]:
    port = int(server.url.rpartition(":")[2])
    wrong: list[str] = []
    done: Counter[str] = Counter()
    connections = iter(_divided(count, Random(kind)))

    async def client() -> None:
        for number, requests in connections:
            dice = Random(f"{kind} {number}")
            asked = [ask(dice) for _ in range(requests)]
            way, rhythm = dice.choice(_WAYS), dice.choice(_RHYTHMS)
            try:
                await asyncio.wait_for(_converse(port, asked, way, rhythm, dice), PATIENCE)
            except (Violation, OSError, TimeoutError, asyncio.IncompleteReadError) as error:
                paths = ", ".join(each.api.path for each in asked)
                wrong.append(f"{number}: {paths} sent {way}, read {rhythm}: {type(error).__name__}: {error}")
            done.update(each.api.path for each in asked)

    await asyncio.gather(*(client() for _ in range(_AT_ONCE)))
    told = f"{sum(done.values())} in {len(done)} APIs, {len(wrong)} wrong" + "".join(f"; {each}" for each in wrong[:3])
    goal = f"streams {kind}: however sent and read, the same text, valid, with one end"
    return [kept("R21", goal, told, not wrong and sum(done.values()) == count)]


def _divided(count: int, dice: Random) -> Iterator[tuple[int, int]]:
    """Numbers of connections, and of the requests on each; `count` of these."""
    left, number = count, 0
    while left:
        requests = min(left, dice.randint(1, _MOST_BEHIND))
        yield number, requests
        left -= requests
        number += 1


def _scripted(dice: Random) -> Asked:
    """A request whose answer stands in its prompt."""
    api = dice.choice(APIS)
    length = _LONG_SCRIPT if dice.randrange(_LONG) == 0 else dice.randint(1, 60)
    middle = "".join(dice.choice(dice.choice((_SIGNS, _WIDE, _PLAIN))) for _ in range(length))
    text = f"é{middle}中"  # blanks around it are free
    return _asked(api, api.ask(f"{OPENING}{text}{CLOSING}"), text, dice)


def _held(dice: Random) -> Asked:
    """A request whose answer is held to one text: a string of JSON."""
    api = dice.choice(APIS)
    text = dice.choice(_TEXTS)
    fields = api.ask("Say it.") | api.form({"const": text})
    return _asked(api, fields, json.dumps(text, ensure_ascii=False), dice)


def _asked(api: API, fields: dict[str, Any], text: str, dice: Random) -> Asked:
    body = json.dumps({"model": "tinychat", **fields}, ensure_ascii=dice.random() < 0.3).encode()
    return Asked(api, body, text)


async def _converse(port: int, asked: Sequence[Asked], way: str, rhythm: str, dice: Random) -> None:
    """Send requests on one connection, all at the beginning or each behind an answer. Raises Violation."""
    sock = socket.socket()
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if rhythm != "at once":
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
    reader, writer = await asyncio.open_connection(sock=sock)
    try:
        answers = _Answers(reader, rhythm, dice)
        requests = [_request(each, way, dice) for each in asked]
        if dice.random() < 0.5:
            sending = asyncio.ensure_future(_send(writer, b"".join(requests), way, dice))
            for each in asked:
                _check(each, await answers.next())
            await sending
        else:
            for each, request in zip(asked, requests, strict=True):
                await _send(writer, request, way, dice)
                _check(each, await answers.next())
    finally:
        writer.transport.abort()


def _check(asked: Asked, body: bytes) -> None:
    if (text := asked.api.read(body)) != asked.text:
        raise Violation(f"another text: {text[:80]!r}, not {asked.text[:80]!r}")


def _request(asked: Asked, way: str, dice: Random) -> bytes:
    head = f"POST {asked.api.path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n".encode()
    if "chunks" not in way:
        return head + b"Content-Length: %d\r\n\r\n" % len(asked.body) + asked.body
    parts = [head + b"Transfer-Encoding: chunked\r\n\r\n"]
    for chunk in _cut(asked.body, dice, 40):
        extension = b";a=b" if dice.random() < 0.1 else b""
        parts.append((b"%x" if dice.random() < 0.5 else b"%X") % len(chunk) + extension + b"\r\n" + chunk + b"\r\n")
    return b"".join([*parts, b"0\r\n\r\n"])


def _cut(data: bytes, dice: Random, most: int) -> Iterator[bytes]:
    at = 0
    while at < len(data):
        end = at + dice.randint(1, most)
        yield data[at:end]
        at = end


async def _send(writer: asyncio.StreamWriter, data: bytes, way: str, dice: Random) -> None:
    """Send bytes as the way says. Each write is a segment of its own, while the server keeps up."""
    if way in ("in one piece", "in chunks"):
        writer.write(data)
        return
    most = 1 if way == "byte by byte" else 60
    for segment in _cut(data, dice, most):
        writer.write(segment)
        await asyncio.sleep(0.002 if dice.random() < 0.01 else 0)


class _Answers:
    """Reads answers off a connection, in a rhythm."""

    def __init__(self, reader: asyncio.StreamReader, rhythm: str, dice: Random) -> None:
        self._bytes = self._arriving(reader, rhythm, dice)
        self._buffer = bytearray()

    async def next(self) -> bytes:
        """The body of the next answer. Raises Violation."""
        status, *fields = (await self._until(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = dict(field.lower().split(": ", 1) for field in fields)
        if " 200 " not in status or headers.get("transfer-encoding") != "chunked":
            raise Violation(f"{status} {headers}")
        body = b""
        while size := int(await self._until(b"\r\n"), 16):
            await self._fill(size + 2)
            body += self._buffer[:size]
            if self._buffer[size : size + 2] != b"\r\n":
                raise Violation("a chunk has another size")
            del self._buffer[: size + 2]
        if await self._until(b"\r\n"):
            raise Violation("something follows the last chunk")
        return body

    async def _until(self, end: bytes) -> bytes:
        while (at := self._buffer.find(end)) < 0:
            self._buffer += await anext(self._bytes)
        found = bytes(self._buffer[:at])
        del self._buffer[: at + len(end)]
        return found

    async def _fill(self, size: int) -> None:
        while len(self._buffer) < size:
            self._buffer += await anext(self._bytes)

    @staticmethod
    async def _arriving(reader: asyncio.StreamReader, rhythm: str, dice: Random) -> AsyncIterator[bytes]:
        if rhythm.startswith("late"):
            await asyncio.sleep(0.1)
        most = {"byte by byte": 1, "in pieces": 50, "with rests": 500}.get(rhythm, 1 << 16)
        while data := await reader.read(dice.randint(1, most) if most < 1 << 16 else most):
            yield data
            if rhythm == "with rests" and dice.random() < 0.1:
                await asyncio.sleep(0.01)
        raise Violation("the connection is closed before the end")
