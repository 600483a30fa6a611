"""What a format of answers is: a reader, a specification for the grammar, and what a reader knows of the request."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum, auto

from engine.api import Message
from engine.chat.output.stream import ParserCoroutine, TextBuffer
from engine.chat.output.toolset import ToolSet


def _themselves(names: Iterable[str]) -> dict[str, str]:
    return {name: name for name in names}


NAME, KIND = "\ue000name", "\ue000kind"
"""Placeholders in a specification: the name of the function or argument, and the type of an argument's value."""

NUMBER, KEY, BLANK, LINE = "\ue000number", "\ue000key", "\ue000blank", "\ue000line"
"""Placeholders for a number and a name that the model chooses, a space and a line feed that it may leave out."""

_PLACEHOLDER = re.compile("\ue000[a-z]+")


class Values(Enum):
    """How argument values are written.

    JSON: as JSON. BARE: strings without quotes, all else as JSON. QUOTED: strings between quotes of the format's own,
    keys of objects bare and sorted.
    """

    JSON = auto()
    BARE = auto()
    QUOTED = auto()


@dataclass(frozen=True, slots=True)
class ArgumentSpec:
    """How one argument is written, in formats whose arguments are not one JSON object.

    An argument is `opening`, its name, `middle`, its value, `closing`; `separator` stands between two. `kind` maps a
    JSON type to the format's word for it. `names` is a pattern of the names that can be written.
    """

    opening: str
    middle: str
    closing: str = ""
    separator: str = ""
    values: Values = Values.BARE
    quote: str = ""
    kind: Callable[[str], str] = str
    names: str = r"\S(?:.*\S)?"

    def affixes(self, name: str) -> tuple[str, str]:
        """What stands before and behind the value of the argument `name`."""
        return self.opening + name + self.middle, self.closing.replace(NAME, name)


@dataclass(frozen=True, slots=True)
class ToolCallSpec:
    """How tool calls are written: each is `opening`, a name, `middle`, arguments, `closing`.

    `before` and `after` stand around all calls, `separator` between two; without a separator an answer has one call
    only. `aliases` maps the functions' names to those that the model knows, `names` is a pattern of the names that can
    be written. Without `arguments` the arguments are one JSON object. No string in them may contain one of the
    `reserved` texts, which the reader would take for markup. `strips_leading_space`: the reader drops whitespace
    before calls. `tag` is what calls begin with and content does not, "" where only a function's name tells them apart.
    """

    opening: str
    middle: str
    closing: str
    before: str = ""
    after: str = ""
    separator: str | None = None
    aliases: Callable[[Iterable[str]], Mapping[str, str]] = field(default=_themselves)
    arguments: ArgumentSpec | None = None
    reserved: tuple[str, ...] = ()
    names: str = r"(?s:.*)"
    strips_leading_space: bool = False
    tag: str = ""

    def around(self, before: str, after: str) -> ToolCallSpec:
        """The same calls with these tags around all of them."""
        return replace(self, before=before + self.before, after=self.after + after)

    def within(self, opening: str, closing: str) -> ToolCallSpec:
        """The same calls between two tags: around the list if there is one, else around each call."""
        if self.before or self.after:
            return self.around(opening, closing)
        return replace(self, opening=opening + self.opening, closing=self.closing + closing)

    def prefix(self, name: str) -> str:
        """What stands before the arguments of a call. The quotes of a JSON name are in `opening` and `middle`."""
        quoted = self.opening.endswith('"')
        written = json.dumps(name, ensure_ascii=False)[1:-1] if quoted else name
        return self.opening + written + self.middle.replace(NAME, name)

    @property
    def leads(self) -> bool:
        """Whether calls are told from content only where they begin the answer: they could be JSON or text as well."""
        start = self.before + self.opening
        return not self.tag and (not start or start.startswith(("{", "[")))

    def begins(self, name: str) -> str:
        """What tells a call of a function from content, in formats without a `tag`: all up to its arguments."""
        start = self.before + self.prefix(name)
        return _PLACEHOLDER.split(start)[0] if self.arguments else start + "{"


class ReasoningMode(Enum):
    """How an answer begins: without reasoning, with reasoning if the model likes, or inside of it."""

    NONE = auto()
    ALLOWED = auto()
    BEGUN = auto()


@dataclass(frozen=True, slots=True)
class FormatSpec:
    """How a whole answer is written, for grammars.

    `thinking` are the tags around reasoning ("" if there is none), `content` stands before content. `calls` is None if
    the model cannot call tools. `begins(context)`: the answer starts inside of reasoning; if False it has no reasoning.
    `only_if_asked`: the reader looks for reasoning only if the request asks for it.
    """

    thinking: tuple[str, str] = ("", "")
    content: str = ""
    calls: ToolCallSpec | None = None
    begins: Callable[[ParseContext], bool] | None = None
    only_if_asked: bool = False

    def reasoning_mode(self, context: ParseContext) -> ReasoningMode:
        """How the answer to this request begins."""
        opening, _ = self.thinking
        if context.continues or not opening or (self.only_if_asked and not context.think):
            return ReasoningMode.NONE
        if self.begins is not None:
            return ReasoningMode.BEGUN if self.begins(context) else ReasoningMode.NONE
        if context.opened(opening.rstrip()):
            return ReasoningMode.BEGUN
        return ReasoningMode.ALLOWED if context.think else ReasoningMode.NONE


CONTENT_ONLY = FormatSpec()
"""Everything is content."""


def json_call(
    before: str = "", after: str = "", separator: str | None = None, *, name: str = "name", arguments: str = "arguments"
) -> ToolCallSpec:
    """Objects: `{"name": "f", "arguments": {}}`."""
    return ToolCallSpec(f'{before}{{"{name}": "', f'", "{arguments}": ', f"}}{after}", separator=separator)


def json_list(before: str = "[", after: str = "]", *, name: str = "name", arguments: str = "arguments") -> ToolCallSpec:
    """One array of objects: `[{"name": "f", "arguments": {}}, {"name": "g", "arguments": {}}]`."""
    return ToolCallSpec(f'{{"{name}": "', f'", "{arguments}": ', "}", before, after, ", ")


@dataclass(frozen=True, slots=True)
class ParseContext:
    """What a reader knows of the request.

    `think`: whether it asks for reasoning. `last` is the last message of the conversation; an assistant's message is
    continued by the answer. `prompt` is the text that the model got; only its end matters.
    """

    tools: ToolSet = field(default_factory=ToolSet)
    think: bool = True
    last: Message | None = None
    prompt: str = ""

    @property
    def continues(self) -> bool:
        """Whether the answer continues an assistant's text."""
        return self.last is not None and self.last.role == "assistant" and self.last.content != ""

    def opened(self, tag: str) -> bool:
        """Whether the prompt ends with this tag, so that the answer begins behind it."""
        return self.prompt[-len(tag) - 64 :].rstrip().endswith(tag)


Reader = Callable[[TextBuffer, ParseContext], ParserCoroutine[None]]
"""Parses one answer: takes text from the buffer and yields deltas."""


@dataclass(frozen=True, slots=True)
class Format:
    """A format of answers: `read` parses one, `spec` describes it to the grammar.

    `preserved` are special tokens that the reader must see as text; other special tokens are dropped. `thinking`:
    whether the model reasons.
    """

    read: Reader
    spec: FormatSpec = CONTENT_ONLY
    preserved: tuple[str, ...] = ()
    thinking: bool = False

    @property
    def tools(self) -> bool:
        """Whether the model can call tools."""
        return self.spec.calls is not None
