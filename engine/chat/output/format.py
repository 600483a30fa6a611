"""What a parser is: a script over an answer, and what it may know about the request."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum, auto

from engine.api import Message
from engine.chat.output.stream import ParserCoroutine, TextBuffer
from engine.chat.output.toolset import ToolSet

# How answers in a format are put together, for grammars that hold a model to it.


def _themselves(names: Iterable[str]) -> dict[str, str]:
    return {name: name for name in names}


NAME, KIND = "\ue000name", "\ue000kind"
"""Stand in a shape for the name of the function or argument, and for the kind of its value."""

NUMBER, KEY, BLANK, LINE = "\ue000number", "\ue000key", "\ue000blank", "\ue000line"
"""Stand for a number and a name that the model chooses, for a blank and a line feed that it may leave out."""


class Values(Enum):
    """How values are written: as JSON; texts bare and all else as JSON; or texts between quotes of the format's own,
    objects and arrays without any, keys bare and sorted."""

    JSON = auto()
    BARE = auto()
    QUOTED = auto()


@dataclass(frozen=True, slots=True)
class ArgumentSpec:
    """How one argument is written, where all of them are not one object of JSON.

    It is `opening`, its name, `middle`, its value, `closing`; `between` stands between two. `kind` is the format's word
    for a kind of JSON, `names` matches the names that can be written.
    """

    opening: str
    middle: str
    closing: str = ""
    between: str = ""
    values: Values = Values.BARE
    quote: str = ""
    kind: Callable[[str], str] = str
    names: str = r"\S(?:.*\S)?"

    def ends(self, name: str) -> tuple[str, str]:
        """What stands before and behind the value of this name."""
        return self.opening + name + self.middle, self.closing.replace(NAME, name)


@dataclass(frozen=True, slots=True)
class ToolCallSpec:
    """How calls are written: each is `opening`, a name, `middle`, arguments, `closing`; the name may come again there.

    `before` and `after` stand around all of them, `between` two of them; without it an answer has one call only.
    `aliases` maps the functions' names to those by which the model knows them, `names` matches those that can be
    written. Arguments are one object of JSON unless there are `arguments`. No text in them may contain one of the
    `reserved`: the reader would take it for its own. `strips_leading_space`: the reader drops white space before calls.
    """

    opening: str
    middle: str
    closing: str
    before: str = ""
    after: str = ""
    between: str | None = None
    aliases: Callable[[Iterable[str]], Mapping[str, str]] = field(default=_themselves)
    arguments: ArgumentSpec | None = None
    reserved: tuple[str, ...] = ()
    names: str = r"(?s:.*)"
    strips_leading_space: bool = False

    def within(self, opening: str, closing: str) -> ToolCallSpec:
        """The same calls between two tags, each of them or, if something stands around all, all of them."""
        if self.before or self.after:
            return replace(self, before=opening + self.before, after=self.after + closing)
        return replace(self, opening=opening + self.opening, closing=self.closing + closing)

    def head(self, name: str) -> str:
        """What stands before the arguments of a call; a name in JSON has its quotes in `opening` and `middle`."""
        quoted = self.opening.endswith('"')
        written = json.dumps(name, ensure_ascii=False)[1:-1] if quoted else name
        return self.opening + written + self.middle.replace(NAME, name)


class ReasoningMode(Enum):
    """Where reasoning has its place in an answer: nowhere, at its beginning if the model likes, or it has begun."""

    NONE = auto()
    ALLOWED = auto()
    BEGUN = auto()


@dataclass(frozen=True, slots=True)
class FormatSpec:
    """What surrounds reasoning ("" where there is none), what stands before content, and how calls are written.

    `calls` is None where the model has no way to call tools. `begins` is for formats whose readers take the
    beginning of an answer for reasoning in some turns, whatever it is, and look for none in others; `asks` is for
    those that look for it only where it was asked for.
    """

    thinking: tuple[str, str] = ("", "")
    content: str = ""
    calls: ToolCallSpec | None = None
    begins: Callable[[ParseContext], bool] | None = None
    asks: bool = False

    def reasoning_mode(self, turn: ParseContext) -> ReasoningMode:
        """What the answer to a turn begins with."""
        opening, _ = self.thinking
        if turn.continues or not opening or (self.asks and not turn.think):
            return ReasoningMode.NONE
        if self.begins is not None:
            return ReasoningMode.BEGUN if self.begins(turn) else ReasoningMode.NONE
        if turn.opened(opening.rstrip()):
            return ReasoningMode.BEGUN
        return ReasoningMode.ALLOWED if turn.think else ReasoningMode.NONE


CONTENT_ONLY = FormatSpec()
"""Everything is content."""


def json_call(
    before: str = "", after: str = "", between: str | None = None, *, name: str = "name", arguments: str = "arguments"
) -> ToolCallSpec:
    """Objects: `{"name": "f", "arguments": {}}`."""
    return ToolCallSpec(f'{before}{{"{name}": "', f'", "{arguments}": ', f"}}{after}", between=between)


def json_list(before: str = "[", after: str = "]", *, name: str = "name", arguments: str = "arguments") -> ToolCallSpec:
    """One array of objects: `[{"name": "f", "arguments": {}}, {"name": "g", "arguments": {}}]`."""
    return ToolCallSpec(f'{{"{name}": "', f'", "{arguments}": ', "}", before, after, ", ")


@dataclass(frozen=True, slots=True)
class ParseContext:
    """The request that is being answered.

    `think`: whether reasoning was asked for. `last` is the last message of the conversation: an assistant's is
    continued by the answer. `prompt` is the text the model got; only its end matters.
    """

    tools: ToolSet = field(default_factory=ToolSet)
    think: bool = True
    last: Message | None = None
    prompt: str = ""

    @property
    def continues(self) -> bool:
        """Whether the answer goes on in the middle of an assistant's text."""
        return self.last is not None and self.last.role == "assistant" and self.last.content != ""

    def opened(self, tag: str) -> bool:
        """Whether the prompt ends with a tag, so that the answer begins behind it."""
        return self.prompt[-len(tag) - 64 :].rstrip().endswith(tag)


Reader = Callable[[TextBuffer, ParseContext], ParserCoroutine[None]]


@dataclass(frozen=True, slots=True)
class Format:
    """A way of writing answers: `read` reads one, `spec` tells how it is written.

    `preserved` are special tokens that mean something to the reader: they must reach it as text, while other
    special tokens are nobody's business. `thinking` says whether the model reasons.
    """

    read: Reader
    spec: FormatSpec = CONTENT_ONLY
    preserved: tuple[str, ...] = ()
    thinking: bool = False

    @property
    def tools(self) -> bool:
        """Whether the model can call tools."""
        return self.spec.calls is not None
