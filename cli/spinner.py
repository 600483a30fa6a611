"""A sign that something is under way, where there is a terminal to show it."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from typing import TypeVar

from rich.console import Console

T = TypeVar("T")


def spinning(items: Iterable[T]) -> Iterator[T]:
    """The same items; a spinner turns until the first one is there."""
    iterator = iter(items)
    with Console(stderr=True).status("") if sys.stderr.isatty() else nullcontext():
        first = next(iterator, None)
    if first is not None:
        yield first
    yield from iterator
