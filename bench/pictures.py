"""Pictures: how soon a question about one is answered, and what they cost those who show none or the same one."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from statistics import median

import uvloop

from bench.client import Answer, Client
from bench.dialects import Message, Request
from bench.figures import Goal, Measure
from bench.scenarios import Constrained, Values, gaps_within
from bench.servers import Target
from bench.serving import PROJECT, LocalServer
from bench.workload import text

PICTURE = (PROJECT / "registry" / "bundled" / "sight.png").read_bytes()
LOGGED_WITHIN = 0.5  # seconds from an answer to the last record of it in the log
ROOM = 8  # tokens that an answer may have; it ends earlier by itself
WORDS_OF_PICTURE = 4  # as many tokens as the rows of a picture


class Pictures:
    """New pictures, a second question about one, some beside a stream, and a new one in eight chats at once.

    The stream is held to a schema, as without one the model would end it soon. Pictures have the same pixels, but are
    other files, so that they are encoded anew.
    """

    talks = 7  # of two questions, with a picture and without
    chats = 8
    before = 200  # pieces of the stream when the first picture comes
    beside = 3  # pictures that come one after the other while it runs
    words = 12

    _first = "first token of a question with a new picture, s"
    _again = "first token of a second question on the same picture / of one as long without"
    _gap = "longest gap of a stream while pictures are encoded / before"
    _encodes = f"encodes of one new picture in {chats} chats at once"
    measures = (
        Measure(_first, "s", beside=Goal("<=", 1.0)),
        Measure(_again, "", goal=Goal("<=", 1.2)),
        Measure(_gap, "", goal=Goal("<=", 5.0)),
        Measure(_encodes, "", goal=Goal("<=", 1)),
    )

    def measure(self, target: Target, turn: int) -> Values:
        """One round."""
        return uvloop.run(self._measure(target, turn))

    async def _measure(self, target: Target, turn: int) -> Values:
        client, key = target.client, f"pictures {turn}"
        shown, plain = [], []
        for i in range(self.talks):  # one answer takes milliseconds, and as many more where another program runs
            shown.append(await self._two_turns(client, f"{key} shown {i}", _new(f"{key} shown {i}")))
            plain.append(await self._two_turns(client, f"{key} plain {i}"))
        first, again = (median(seconds) for seconds in zip(*shown, strict=True))
        values = {self._first: first, self._again: again / median(second for _, second in plain)}
        values |= await self._disturbed(client, key)
        if target.encodes is None:
            return values
        encodes = target.encodes()
        questions = (self._question(f"{key} chat {i}", _new(key)) for i in range(self.chats))
        await asyncio.gather(*(whole_answer(client, question) for question in questions))
        await asyncio.sleep(LOGGED_WITHIN)
        return values | {self._encodes: target.encodes() - encodes}

    async def _two_turns(self, client: Client, key: str, *pictures: bytes) -> tuple[float, float]:
        """Seconds to the first tokens of a chat's two answers. Without a picture its first message is longer."""
        asked = text(self.words if pictures else self.words + WORDS_OF_PICTURE, key)
        messages: list[Message] = [("user", asked)]
        answers = []
        for following in (text(self.words, f"{key} 2"), ""):
            answers.append(await whole_answer(client, Request(ROOM, messages=tuple(messages), pictures=pictures)))
            messages += [("assistant", answers[-1].text), ("user", following)]
        return answers[0].first, answers[1].first

    async def _disturbed(self, client: Client, key: str) -> Values:
        """The longest gap of a stream beside pictures, relative to that before; nothing if it has ended too soon."""
        stream = await client.open(Request(Constrained.room, text(self.words, key), schema=Constrained.schema))
        await stream.reached(self.before)
        begin = time.perf_counter()
        for i in range(self.beside):
            await whole_answer(client, self._question(f"{key} {i}", _new(f"{key} {i}")))
        end = time.perf_counter()
        answer = await client.leave(stream)
        quiet = [gap for when, gap in answer.gaps if when <= begin]
        beside = gaps_within([answer], begin, end)
        return {self._gap: max(beside) / max(quiet)} if beside and quiet else {}

    def _question(self, key: str, picture: bytes) -> Request:
        return Request(ROOM, messages=(("user", text(self.words, key)),), pictures=(picture,))


def picture_server(store: Path) -> LocalServer:
    """Our server with a log in which encodes are counted."""
    return LocalServer(store, store / "server.log", OLLAMA_DEBUG="1")


async def whole_answer(client: Client, request: Request) -> Answer:
    """An answer that may end before it has all tokens, also with none. Raises BadAnswer or OSError."""
    stream = await client.open(request)
    await stream.ended.wait()
    return await client.leave(stream)


def _new(key: str) -> bytes:
    """Another file with the same pixels: nothing reads what follows a PNG's end."""
    return PICTURE + key.encode()
