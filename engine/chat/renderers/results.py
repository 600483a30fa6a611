"""Results of tools: several in a row answer one message, and most families write them as one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import groupby

from engine.requests import Message


def fold_results(messages: Iterable[Message], write: Callable[[Sequence[Message]], str]) -> list[Message]:
    """The messages with each run of results as one of role `tool`, whose content is what `write` makes of the run."""
    folded: list[Message] = []
    for is_result, run in groupby(messages, lambda message: message.role == "tool"):
        if is_result:
            folded.append(Message("tool", write(list(run))))
        else:
            folded += run
    return folded
