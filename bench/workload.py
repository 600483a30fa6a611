"""The work that is given to every side, and its prompts: the same for all sides, new ones in every round."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from bench.run import Run

WORDS = (Path(__file__).parent / "data" / "words.txt").read_text().split()


class Side(Protocol):
    """Somebody who answers prompts: a server, or the bare loop."""

    def run(self, prompts: Sequence[str], n_tokens: int) -> Run:
        """Answer all prompts at once with exactly `n_tokens` tokens each."""


@dataclass(frozen=True, slots=True)
class Workload:
    """`streams` prompts of `words` words at once, each answered with `tokens` tokens."""

    streams: int
    words: int
    tokens: int

    def prompts(self, turn: int) -> list[str]:
        """The prompts of one round. They differ from the first words on, so that no cached prefix is of use."""
        return [text(self.words, f"{self} {turn} {stream}") for stream in range(self.streams)]


def text(count: int, key: str) -> str:
    """`count` plain words; the same for the same key."""
    return " ".join(random.Random(key).choices(WORDS, k=count))


def interleave(sides: Sequence[Side], workload: Workload, rounds: int) -> list[list[Run]]:
    """Every side's runs. The sides take turns, so that what else the machine does hits all of them."""
    runs: list[list[Run]] = [[] for _ in sides]
    for turn in range(rounds):
        prompts = workload.prompts(turn)
        for side, its_runs in zip(sides, runs, strict=True):
            its_runs.append(side.run(prompts, workload.tokens))
    return runs
