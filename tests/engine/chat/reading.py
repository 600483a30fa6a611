"""Helpers to run machines over cut-up answers and to add up what they say."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from engine.chat.tape import Machine
from engine.requests import Delta


def steps(machine: Machine, chunks: Iterable[str]) -> Iterator[Delta]:
    """What each chunk makes the machine say, and at last what the end makes it say."""
    for chunk in chunks:
        yield joined(machine.feed(chunk))
    yield joined(machine.feed("", final=True))


def answer(machine: Machine, chunks: Iterable[str]) -> Delta:
    """The whole answer."""
    return joined(steps(machine, chunks))


def joined(deltas: Iterable[Delta]) -> Delta:
    """Several deltas as one."""
    total = Delta()
    for delta in deltas:
        total.content += delta.content
        total.thinking += delta.thinking
        total.tool_calls += delta.tool_calls
    return total


def cut(text: str, places: Iterable[int]) -> list[str]:
    """The text in pieces, cut at the given places (modulo its length)."""
    marks = sorted({place % (len(text) + 1) for place in places})
    return [text[start:end] for start, end in zip([0, *marks], [*marks, len(text)], strict=True)]
