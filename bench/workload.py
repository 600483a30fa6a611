"""The workloads and their prompts: the same for all sides, new ones in every round."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from bench.run import Run

WORDS = (Path(__file__).parent / "data" / "words.txt").read_text().split()


class Side(Protocol):
    """A server or the bare loop."""

    def run(self, prompts: Sequence[str], n_tokens: int) -> Run:
        """Answer all prompts at once with exactly `n_tokens` tokens each."""


@dataclass(frozen=True, slots=True)
class Workload:
    """`streams` prompts of `words` words at once, each answered with `tokens` tokens."""

    streams: int
    words: int
    tokens: int

    def prompts(self, turn: int) -> list[str]:
        """The prompts of one round. They differ from the first word on, so that no prefix cache helps."""
        return [text(self.words, f"{self} {turn} {stream}") for stream in range(self.streams)]


def text(count: int, key: str) -> str:
    """`count` words, determined by the key."""
    return " ".join(random.Random(key).choices(WORDS, k=count))


def interleave(sides: Sequence[Side], workload: Workload, turns: Sequence[int]) -> list[list[Run]]:
    """The runs of every side. Sides alternate, so that noise of the machine hits all of them."""
    runs: list[list[Run]] = [[] for _ in sides]
    for turn in turns:
        prompts = workload.prompts(turn)
        for side, its_runs in zip(sides, runs, strict=True):
            its_runs.append(side.run(prompts, workload.tokens))
    return runs


ONE = Workload(streams=1, words=96, tokens=128)
EIGHT = Workload(streams=8, words=96, tokens=64)
SHORT = Workload(streams=1, words=8, tokens=1)
TINY_ONE = Workload(streams=1, words=96, tokens=64)
WARM_UP = Workload(streams=8, words=24, tokens=8)
PREFIX_WORDS = 1200
ENDING_WORDS = 12


@dataclass(frozen=True, slots=True)
class Rounds:
    """How much is measured, in runs and requests, so that it is the same work on every machine and server.

    Rounds: with decoding, to the first token only, of shared prefixes, of other scenarios, of tinychat, of starts and
    loads, of pictures. Sizes: jobs of the traffic, tokens of an answer in a chat and with a schema, words of the shared
    prompt.
    `all_fresh`: everything is measured before the traffic as well, not only the basic rows.
    """

    decode: int = 7
    short: int = 21
    prefix: int = 3
    scenario: int = 3
    tiny: int = 41
    loads: int = 5
    traffic: int = 320
    chat_tokens: int = 48
    schema_tokens: int = 64
    shared_words: int = 1500
    pictures: int = 11
    all_fresh: bool = True


FULL = Rounds()
QUICK = Rounds(
    decode=1,
    short=3,
    prefix=1,
    scenario=1,
    tiny=5,
    loads=1,
    traffic=12,
    chat_tokens=16,
    schema_tokens=32,
    shared_words=400,
    pictures=3,
    all_fresh=False,
)
