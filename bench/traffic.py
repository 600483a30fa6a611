"""Mixed traffic before a measurement: what a server has behind it that has run for a while.

It is defined by its work, not by a time, so that it is the same for every server.
"""

from __future__ import annotations

import asyncio
import random
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

import uvloop

from bench.client import BadAnswer, Client
from bench.dialects import Request
from bench.scenarios import chat
from bench.workload import Rounds, text

Kind = Literal["prompt", "chat", "left", "embedding"]
T = TypeVar("T")

CLIENTS = 8
KINDS: dict[Kind, int] = {"prompt": 9, "chat": 6, "left": 3, "embedding": 2}  # how often, in twenty
WORDS = {8: 3, 24: 3, 48: 4, 96: 4, 192: 3, 400: 2, 900: 1}
TOKENS = {8: 2, 16: 3, 32: 4, 64: 3, 128: 1}
SEEDED = 0.3  # the share of prompts that come with a seed


@dataclass(frozen=True, slots=True)
class Phase:
    """When something is measured: its name, and the number of its first round, so that no two phases share prompts."""

    name: str
    begin: int

    def turns(self, rounds: int) -> range:
        """The numbers of its rounds."""
        return range(self.begin, self.begin + rounds)

    def measures_all(self, rounds: Rounds) -> bool:
        """Whether everything is measured, or only the basic rows."""
        return rounds.all_fresh or self is not FRESH


FRESH = Phase("fresh", 0)
STEADY = Phase("steady", 1000)


@dataclass(frozen=True, slots=True)
class Job:
    """What one client does next; `words` has a number for each turn of a chat, else one.

    Of an answer that is left, `leave_after` parts are read.
    """

    kind: Kind
    key: str
    words: tuple[int, ...]
    tokens: int
    seed: int | None = None
    leave_after: int = 0


def phases(clients: Sequence[Client], longest: int, count: int) -> Iterator[Phase]:
    """Fresh, and then, once every client's server has had all the traffic, steady.

    `count` is that of the jobs, `longest` the words of the longest prompt. Embeddings are among them if all servers do
    them. Raises BadAnswer or OSError.
    """
    yield FRESH
    print(f"bench: mixed traffic, {count} jobs", file=sys.stderr)
    if not (embeddings := all(embeds(client) for client in clients)):
        print("bench: without embeddings, because not all servers make them of this model", file=sys.stderr)
    for client in clients:
        send(client, mix(count, longest, embeddings=embeddings))
    yield STEADY


def mix(count: int, longest: int, *, embeddings: bool = True) -> list[Job]:
    """Always the same jobs, with prompts of at most `longest` words."""
    chance = random.Random("traffic")
    jobs = (_job(f"traffic {i}", chance, longest) for i in range(count))
    return [job for job in jobs if embeddings or job.kind != "embedding"]


def send(client: Client, jobs: Sequence[Job]) -> None:
    """Do all jobs, with several clients at once of which each takes the next one. Raises BadAnswer or OSError."""
    uvloop.run(_send(client, jobs))


def embeds(client: Client) -> bool:
    """Whether the server embeds texts with this model."""
    try:
        uvloop.run(client.embed("ready"))
    except BadAnswer:
        return False
    return True


async def _send(client: Client, jobs: Sequence[Job]) -> None:
    waiting = iter(jobs)

    async def work() -> None:
        for job in waiting:
            await _do(client, job)

    await asyncio.gather(*(work() for _ in range(CLIENTS)))


async def _do(client: Client, job: Job) -> None:
    if job.kind == "chat":
        await chat(client, job.key, job.words, job.tokens)
        return
    prompt = text(job.words[0], job.key)
    if job.kind == "embedding":
        await client.embed(prompt)
        return
    stream = await client.open(request := Request(job.tokens, prompt, seed=job.seed))
    if job.kind == "left":
        await stream.reached(job.leave_after)
        await stream.leave()
    else:
        await client.answer(stream, request)


def _job(key: str, chance: random.Random, longest: int) -> Job:
    kind = _choice(chance, KINDS)
    turns = chance.randint(2, 4) if kind == "chat" else 1
    each = longest // 4 if kind == "chat" else longest
    words = tuple(min(_choice(chance, WORDS), each) for _ in range(turns))
    seed = chance.randrange(1 << 31) if chance.random() < SEEDED else None
    return Job(kind, key, words, _choice(chance, TOKENS), seed, leave_after=chance.choice((0, 1, 4, 16)))


def _choice(chance: random.Random, weights: dict[T, int]) -> T:
    return chance.choices(list(weights), list(weights.values()))[0]
