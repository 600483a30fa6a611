"""What is measured on a server beyond parallel streams: chats, shared prompts, mixed lengths, schemas, loads, memory.

A round of a scenario gives a value for each of its measures. Prompts differ in every round, except where a shared
prefix is the subject, and servers draw their own seeds.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any, Protocol

import uvloop

from bench.client import Answer, Client
from bench.dialects import Message, Request
from bench.figures import Goal, Measure, Point, percentile
from bench.measure import cold_load, prefix_gain
from bench.servers import Target
from bench.workload import WARM_UP, Rounds, text

MIB = 1 << 20
Values = Mapping[str, float]


class Scenario(Protocol):
    """Something to measure on one model of a server."""

    @property
    def measures(self) -> Sequence[Measure]:
        """What a round gives."""

    def measure(self, target: Target, turn: int) -> Values:
        """One round: values by the measures' names, none where the server does not allow to measure it.

        Raises BadAnswer, OSError or httpx.HTTPError.
        """


class Chats:
    """Eight conversations of five turns, each turn sent as soon as the one before is answered."""

    chats = 8
    turns = 5

    def __init__(self, tokens: int, words: int = 96) -> None:
        self._tokens = tokens
        self._words = [words, *[words // 2] * (self.turns - 1)]
        self._total = f"{self.chats} chats of {self.turns} turns, tokens/s"
        self._first = [f"first token of turn {turn} of a chat, s" for turn in range(1, self.turns + 1)]
        self._rate = [f"turn {turn} of a chat, tokens/s of a stream with its wait" for turn in range(1, self.turns + 1)]
        last = self.turns - 1
        self.measures = [
            Measure(self._total, "tokens/s", beside=Goal(">=", 1.2)),
            *(
                Measure(name, "s", point=Point("First token in a chat, s", "turn", i + 1), detail=i not in (0, last))
                for i, name in enumerate(self._first)
            ),
            *(
                Measure(name, "tokens/s", point=Point("One stream of 8 chats, tokens/s", "turn", i + 1), detail=True)
                for i, name in enumerate(self._rate)
            ),
        ]

    def measure(self, target: Target, turn: int) -> Values:
        """One round."""
        return uvloop.run(self._measure(target.client, turn))

    async def _measure(self, client: Client, turn: int) -> Values:
        started = time.perf_counter()
        keys = [f"chat {turn} {i}" for i in range(self.chats)]
        chats = await asyncio.gather(*(chat(client, key, self._words, self._tokens) for key in keys))
        seconds = max(answers[-1].end for answers in chats) - started
        values = {self._total: self.chats * self.turns * self._tokens / seconds}
        for i, answers in enumerate(zip(*chats, strict=True)):
            values[self._first[i]] = median(answer.first for answer in answers)
            values[self._rate[i]] = median(self._tokens / (answer.end - answer.asked) for answer in answers)
        return values


class SharedPrompt:
    """Sixteen clients at once that have a long system prompt in common, which is new in each round."""

    clients = 16
    tokens = 24

    def __init__(self, words: int) -> None:
        self._words = words
        self._names = [
            f"{self.clients} clients with a system prompt of {words:,} tokens in common, {what}"
            for what in ("tokens/s", "median first token, s", "worst first token, s")
        ]
        self.measures = [Measure(name, name.rpartition(", ")[2]) for name in self._names]

    def measure(self, target: Target, turn: int) -> Values:
        """One round."""
        return uvloop.run(self._measure(target.client, turn))

    async def _measure(self, client: Client, turn: int) -> Values:
        system = ("system", text(self._words, f"shared {turn}"))
        users = [("user", text(12, f"shared {turn} {i}")) for i in range(self.clients)]
        started = time.perf_counter()
        answers = await asyncio.gather(*(client.ask(Request(self.tokens, messages=(system, user))) for user in users))
        seconds = max(answer.end for answer in answers) - started
        firsts = [answer.first for answer in answers]
        return dict(zip(self._names, (self.clients * self.tokens / seconds, median(firsts), max(firsts)), strict=True))


class MixedLengths:
    """Four streams run when a long prompt comes in, and beside it one short request after the other."""

    running = 4
    begun = 8  # tokens that each of them has when the long prompt comes
    tokens = 128
    long_words = 2000
    shorts = 4

    def __init__(self) -> None:
        when = f"while a prompt of {self.long_words:,} tokens comes in"
        self._median = f"gap between tokens of {self.running} streams {when}, median, ms"
        self._p99 = f"gap between tokens of {self.running} streams {when}, 99 %, ms"
        self._short = f"first token of short requests {when}, worst, s"
        self._long = f"first token of a prompt of {self.long_words:,} tokens beside {self.running} streams, s"
        self.measures = [
            Measure(self._median, "ms"),
            Measure(self._p99, "ms"),
            Measure(self._short, "s"),
            Measure(self._long, "s"),
        ]

    def measure(self, target: Target, turn: int) -> Values:
        """One round."""
        return uvloop.run(self._measure(target.client, turn))

    async def _measure(self, client: Client, turn: int) -> Values:
        requests = [Request(self.tokens, text(24, f"running {turn} {i}")) for i in range(self.running)]
        streams = await asyncio.gather(*(client.open(request) for request in requests))
        await asyncio.gather(*(stream.reached(self.begun) for stream in streams))
        long_request = Request(8, text(self.long_words, f"long {turn}"))
        long_stream = await client.open(long_request)
        shorts = [await client.ask(Request(8, text(8, f"short {turn} {i}"))) for i in range(self.shorts)]
        long_answer = await client.answer(long_stream, long_request)
        answers = [await client.answer(*pair) for pair in zip(streams, requests, strict=True)]
        gaps = gaps_within(answers, long_answer.asked, long_answer.asked + long_answer.first)
        return {
            self._median: median(gaps) * 1e3,
            self._p99: percentile(gaps, 0.99) * 1e3,
            self._short: max(answer.first for answer in shorts),
            self._long: long_answer.first,
        }


class Constrained:
    """Eight streams held to a JSON schema, beside eight without one; and four of each together.

    The answers would be longer, and the clients leave: a schema that has to be fulfilled within few tokens is another
    subject. Strings and numbers have a limit, so that an answer of random words has as much structure as a real one.
    """

    streams = 8
    room = 2048  # tokens that an answer could have
    schema: Mapping[str, Any] = {
        "type": "object",
        "properties": {
            "people": {
                "type": "array",
                "minItems": 12,
                "items": {
                    "type": "object",
                    "properties": {
                        "name": {"type": "string", "maxLength": 20},
                        "age": {"type": "integer", "minimum": 0, "maximum": 130},
                        "colour": {"enum": ["red", "green", "blue", "yellow"]},
                        "tags": {"type": "array", "items": {"type": "string", "maxLength": 12}, "maxItems": 3},
                        "active": {"type": "boolean"},
                    },
                    "required": ["name", "age", "colour", "tags", "active"],
                    "additionalProperties": False,
                },
            }
        },
        "required": ["people"],
        "additionalProperties": False,
    }

    def __init__(self, tokens: int) -> None:
        self._tokens = tokens
        half = self.streams // 2
        self._held = f"{self.streams} streams held to a JSON schema / without one, tokens/s"
        self._beside = f"{half} streams without a schema beside {half} with one / beside {half} without, tokens/s"
        self._rate = f"{self.streams} streams held to a JSON schema, tokens/s"
        self.measures = [
            Measure(self._held, "", goal=Goal(">=", 0.90)),
            Measure(self._beside, "", goal=Goal(">=", 0.97)),
            Measure(self._rate, "tokens/s"),
        ]

    def measure(self, target: Target, turn: int) -> Values:
        """One round."""
        return uvloop.run(self._measure(target.client, turn))

    async def _measure(self, client: Client, turn: int) -> Values:
        half = self.streams // 2
        await client.ask_for(Request(self.room, text(8, f"compile {turn}"), schema=self.schema), 1)
        held = await self._batch(client, f"held {turn}", [True] * self.streams)
        free = await self._batch(client, f"free {turn}", [False] * self.streams)
        both = await self._batch(client, f"both {turn}", [False] * half + [True] * half)
        return {
            self._held: rate_of(held) / rate_of(free),
            self._beside: rate_of(both[:half]) / rate_of(free[:half]),
            self._rate: rate_of(held),
        }

    async def _batch(self, client: Client, key: str, held: Sequence[bool]) -> list[Answer]:
        requests = [
            Request(self.room, text(24, f"{key} {i}"), schema=self.schema if is_held else None)
            for i, is_held in enumerate(held)
        ]
        answers = await asyncio.gather(*(client.ask_for(request, self._tokens) for request in requests))
        await client.ask(Request(1, text(8, f"{key} after")))  # whoever has left is out of the way then
        return answers


class KnownPrefix:
    """The second of two requests with a long prefix in common, relative to the first."""

    name = "first token after a known prefix of 1,200 words / unknown"
    measures = (Measure(name, "", goal=Goal("<=", 0.10, "Ollama about 0.04")),)

    def measure(self, target: Target, turn: int) -> Values:
        """One round."""
        return {self.name: prefix_gain(target.client, turn)}


class ColdLoad:
    """A request for a model that is not loaded."""

    name = "cold load to first token"

    def __init__(self, goal: Goal | None = None) -> None:
        self.measures = (Measure(self.name, "s", goal, beside=Goal("<=", 1.0)),)

    def measure(self, target: Target, turn: int) -> Values:
        """One round."""
        return {} if target.api is None else {self.name: cold_load(target.api, target.client, target.model, turn)}


class Memory:
    """Resident memory of the process that has the model, loaded anew, after eight short answers."""

    name = "memory of the model's process without a prompt cache"
    measures = (Measure(name, "MiB", beside=Goal("<=", 1.0)),)

    def measure(self, target: Target, turn: int) -> Values:
        """One round."""
        if target.processes is None:
            return {}
        target.unload()
        target.client.run(WARM_UP.prompts(turn), WARM_UP.tokens)
        return {self.name: target.processes.model_memory() / MIB}


def scenarios(rounds: Rounds, *, whole: bool) -> list[tuple[Scenario, int]]:
    """What is measured, the `whole` of it or what is measured of every model, and how many rounds of each."""
    prefix = (KnownPrefix(), rounds.prefix)
    if not whole:
        return [prefix]
    return [
        prefix,
        (Chats(rounds.chat_tokens), rounds.scenario),
        (SharedPrompt(rounds.shared_words), rounds.scenario),
        (MixedLengths(), rounds.scenario),
        (Constrained(rounds.schema_tokens), rounds.scenario),
    ]


def values_of(scenario: Scenario, targets: Sequence[Target], turns: Sequence[int]) -> list[list[Values]]:
    """The rounds of every target. Targets alternate, so that noise of the machine hits all of them."""
    values: list[list[Values]] = [[] for _ in targets]
    for turn in turns:
        for target, its_values in zip(targets, values, strict=True):
            its_values.append(scenario.measure(target, turn))
    return values


async def chat(client: Client, key: str, words: Sequence[int], tokens: int) -> list[Answer]:
    """A conversation: a message of so many words for each turn, and the answers. Raises BadAnswer or OSError."""
    messages: list[Message] = [("system", text(16, f"{key} system"))]
    answers = []
    for turn, count in enumerate(words):
        messages.append(("user", text(count, f"{key} {turn}")))
        answers.append(await client.ask(Request(tokens, messages=tuple(messages))))
        messages.append(("assistant", answers[-1].text))
    return answers


def gaps_within(answers: Sequence[Answer], begin: float, end: float) -> list[float]:
    """Seconds between two pieces of one answer, wherever a part of them is between the two times."""
    return [gap for answer in answers for when, gap in answer.gaps if when > begin and when - gap < end]


def rate_of(answers: Sequence[Answer]) -> float:
    """Pieces of text per second of all answers together, from the first request to the last piece."""
    pieces = sum(len(answer.arrivals) for answer in answers)
    return pieces / (max(answer.arrivals[-1] for answer in answers) - min(answer.asked for answer in answers))
