"""How answers in a format are put together, for grammars that hold a model to it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from engine.chat.tools.format import Turn


def _themselves(names: Iterable[str]) -> dict[str, str]:
    return {name: name for name in names}


@dataclass(frozen=True, slots=True)
class CallShape:
    """How calls are written whose arguments are JSON: each is `opening`, a name, `middle`, arguments, `closing`.

    `before` and `after` stand around all of them, `between` two of them; without it an answer has one call only.
    `known_as` maps the functions' names to those by which the model knows them.
    """

    opening: str
    middle: str
    closing: str
    before: str = ""
    after: str = ""
    between: str | None = None
    known_as: Callable[[Iterable[str]], Mapping[str, str]] = field(default=_themselves)

    def head(self, name: str) -> str:
        """What stands before the arguments of a call; a name in JSON has its quotes in `opening` and `middle`."""
        quoted = self.opening.endswith('"')
        return self.opening + (json.dumps(name, ensure_ascii=False)[1:-1] if quoted else name) + self.middle


class Thoughts(Enum):
    """Where reasoning has its place in an answer: nowhere, at its beginning if the model likes, or it has begun."""

    NONE = auto()
    ALLOWED = auto()
    BEGUN = auto()


@dataclass(frozen=True, slots=True)
class Shape:
    """What surrounds reasoning ("" where there is none), what stands before content, and how calls are written.

    `calls` is None where no grammar can be written for them yet. `begins` is for formats whose readers take the
    beginning of an answer for reasoning in some turns, whatever it is, and look for none in others; `asks` is for
    those that look for it only where it was asked for.
    """

    thinking: tuple[str, str] = ("", "")
    content: str = ""
    calls: CallShape | None = None
    begins: Callable[[Turn], bool] | None = None
    asks: bool = False

    def thoughts(self, turn: Turn) -> Thoughts:
        """What the answer to a turn begins with."""
        opening, _ = self.thinking
        if turn.continues or not opening or (self.asks and not turn.think):
            return Thoughts.NONE
        if self.begins is not None:
            return Thoughts.BEGUN if self.begins(turn) else Thoughts.NONE
        if turn.opened(opening.rstrip()):
            return Thoughts.BEGUN
        return Thoughts.ALLOWED if turn.think else Thoughts.NONE


NO_SHAPE = Shape()
"""Everything is content."""


def json_call(
    opening: str = "",
    closing: str = "",
    *,
    between: str | None = None,
    name: str = "name",
    arguments: str = "arguments",
) -> CallShape:
    """Objects, each of them between tags: `<tool_call>{"name": "f", "arguments": {}}</tool_call>`."""
    return CallShape(f'{opening}{{"{name}": "', f'", "{arguments}": ', f"}}{closing}", between=between)


def json_list(before: str = "", after: str = "", *, name: str = "name", arguments: str = "arguments") -> CallShape:
    """One array of objects: `[{"name": "f", "arguments": {}}, {"name": "g", "arguments": {}}]`."""
    return CallShape(f'{{"{name}": "', f'", "{arguments}": ', "}", f"{before}[", f"]{after}", ", ")
