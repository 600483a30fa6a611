"""One input and what is done with it, and broken inputs made of good ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

_CUTS = (0, 0, 1, 1, 2, 4, 8, 16, 64)


@dataclass(frozen=True, slots=True)
class Trial:
    """An input, and a function that raises if it is dealt with badly."""

    given: Any
    run: Callable[[], None]


Target = Callable[[Random], Trial]
"""Makes the next trial. The same state of the random numbers makes the same one."""


def broken(good: Sequence[str], words: Sequence[str], random: Random) -> str:
    """One of the good texts with up to five changes: words put in or written over, parts doubled, left out, swapped."""
    text = random.choice(good)
    for _ in range(random.randint(1, 5)):
        at = random.randint(0, len(text))
        piece = _piece(good, words, random)
        cut = len(piece) if random.random() < 0.5 else random.choice(_CUTS)
        text = text[:at] + piece + text[at + cut :]
    return text[: random.randint(0, len(text))] if random.random() < 0.06 else text


def _piece(good: Sequence[str], words: Sequence[str], random: Random) -> str:
    kind = random.random()
    if kind < 0.5:
        return random.choice(words)
    if kind < 0.7:
        return chr(random.randrange(256))
    if kind < 0.85:
        return ""
    other = random.choice(good)
    start = random.randint(0, len(other))
    return other[start : start + random.choice(_CUTS)]
