"""JSON between two tags: `<tool_call>{"name": …, "arguments": {…}}</tool_call>`, one object, several, or an array.

Written by Hermes, Qwen 2.5 and 3, Granite, Phi 4, Nemotron, Apertus, Jamba, Command R and many more.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from functools import partial

from engine.api import Delta, ToolCall
from engine.chat.output import json_calls
from engine.chat.output.format import Format, FormatSpec, ParseContext, Reader, ToolCallSpec, json_call, json_list
from engine.chat.output.json_calls import BadJSON, parse, read_held_call, read_object
from engine.chat.output.reasoning import after_thinking, with_tools
from engine.chat.output.stream import MalformedCall, ParserCoroutine, TextBuffer, Unreadable, content, emitted
from engine.chat.output.toolset import ToolSet


@dataclass(frozen=True, slots=True)
class TaggedJSON:
    """JSON between two tags, declared once for the reader and, by `spec`, for the grammar.

    `inside` tells how calls are written between the tags. `closing` may be "" where they are the last thing in an
    answer; `also` are other spellings of the opening tag.

    A block without a readable call becomes content or, if `complaint` is set, fails the answer; `complaint` stands
    before the words for the fault in its JSON. `trim_after`: whitespace behind a block is dropped.
    """

    opening: str = "<tool_call>"
    closing: str = "</tool_call>"
    inside: ToolCallSpec = field(default_factory=json_list)
    complaint: str | None = None
    trim_after: bool = False
    also: tuple[str, ...] = ()

    @property
    def spec(self) -> ToolCallSpec:
        """How calls are written."""
        tag = self.opening if self.opening.startswith("<") else ""
        return replace(self.inside.within(self.opening, self.closing), tag=tag)

    @property
    def format(self) -> Format:
        """Answers of content and such calls."""
        return Format(self, FormatSpec(calls=self.spec), tuple(filter(None, (self.opening, self.closing))))

    def __call__(self, buffer: TextBuffer, context: ParseContext) -> ParserCoroutine[None]:
        """Read the content of an answer. Raises MalformedCall."""
        while (yield from buffer.emit_until(content, self.opening, *self.also, trim=True)):
            yield from self.read_block(buffer, context.tools)
            if self.trim_after:
                yield from buffer.skip_space()

    def read_block(self, buffer: TextBuffer, tools: ToolSet) -> ParserCoroutine[None]:
        """Emit the calls of one block, each at its last brace. The opening tag is consumed."""
        unsaid, called, announced = "", False, False
        while True:
            lead, mark = yield from buffer.read_until(*filter(None, ("{", self.closing)), keep=True)
            unsaid += lead
            if mark != "{":
                break
            if buffer.held:
                body, _, announced = yield from read_held_call(buffer, tools)
            else:
                body, _ = yield from read_object(buffer, self.closing)
            try:
                calls = json_calls.read_calls(parse(body), tools)
            except Unreadable:
                if announced:  # the answer ends within it
                    return
                unsaid += body
            else:
                yield from emitted(calls)
                unsaid, called = "", True
        closing = buffer.take(len(mark))
        if not called:
            yield self._without_call(unsaid, closing, tools)
        elif "{" in unsaid:
            yield content(unsaid[unsaid.index("{") :] + closing)

    def _without_call(self, text: str, closing: str, tools: ToolSet) -> Delta:
        """A block without a call, as content. Raises MalformedCall, but not if the answer ends inside of the block."""
        if self.complaint is not None and closing:
            try:
                json_calls.read_calls(parse(text), tools)
            except BadJSON as error:
                raise MalformedCall(self.complaint + str(error)) from None
            except Unreadable as error:
                raise MalformedCall(str(error)) from None
        return content(self.opening + text + closing)


HERMES = TaggedJSON(inside=json_call("\n", "\n", "\n"))
"""Hermes, Qwen 2.5 and 3."""


# The format of models whose Go template shows only how a call begins: a tag, then objects with name and arguments.

_BARE = ("{", "[")


def tagged(tag: str) -> Reader:
    """A reader of calls that begin with `tag`. If that is `{` or `[`, calls are the whole answer."""
    return with_tools(_read_bare if tag in _BARE else partial(_read_tagged, tags=spellings(tag)))


def template_format(tag: str, thinking: tuple[str, str] = ("", "")) -> Format:
    """The format of a model whose Go template shows `tag` before calls, and the tags `thinking` around reasoning."""
    end = {"<": ">", "[": "]"}.get(tag[0], "")
    preserved = (tag[: tag.index(end) + 1],) if end in tag[1:] and end else ()
    answer_format = Format(tagged(tag), FormatSpec(calls=tagged_calls(tag)), preserved)
    return after_thinking(answer_format, *thinking, only_if_asked=True) if all(thinking) else answer_format


def tagged_calls(tag: str) -> ToolCallSpec:
    """How calls that begin with `tag` are written; the reader of `tagged` reads them."""
    if tag == "{":
        return json_call()
    if tag.endswith("["):
        return replace(json_list(tag), tag=tag[: tag.find("]") + 1])
    closing = f"\n</{tag[1:]}" if tag.startswith("<") and tag.endswith(">") else ""
    return replace(json_call(f"{tag}\n", closing, "\n"), tag=tag if closing else "")


def spellings(tag: str) -> tuple[str, ...]:
    """A tag as models write it: without whitespace inside, with spaces or with line feeds."""
    words = tag.split()
    return tuple({glue.join(words): None for glue in ("", " ", "\n")} | {tag: None})


def _read_tagged(buffer: TextBuffer, context: ParseContext, tags: tuple[str, ...]) -> ParserCoroutine[None]:
    while tag := (yield from buffer.emit_until(content, *tags)):
        yield from _Calls(context.tools, tag, tag).read(buffer)


def _read_bare(buffer: TextBuffer, context: ParseContext) -> ParserCoroutine[None]:
    yield content((yield from buffer.skip_space()))
    opening = yield from buffer.accept("[")
    opening += yield from buffer.skip_space()
    if brace := (yield from buffer.accept("{")):
        buffer.push_back(brace)
        yield from _Calls(context.tools, "", opening).read(buffer)
    else:
        yield content(opening)
    yield from buffer.emit_until(content)


class _Calls:
    """Reads the objects behind one tag; "" if the answer begins with objects.

    Text that is no call becomes content. Text behind a call is dropped up to the next tag or object, because the
    format's closing tags are unknown.
    """

    def __init__(self, tools: ToolSet, tag: str, consumed: str) -> None:
        self._tools = tools
        self._tag = tag
        self._unsaid = consumed
        self._called = False
        names = "|".join(re.escape(name) for name in sorted(tools.names, key=len, reverse=True))
        self._names = re.compile(rf"(?<![\w-])(?:{names})(?![\w-])")

    def read(self, buffer: TextBuffer) -> ParserCoroutine[None]:
        """Emit calls until the answer ends or something is no call."""
        while True:
            lead, _ = yield from buffer.read_until("{", keep=True)
            self._unsaid += lead
            announced = False
            if buffer.held:
                body, complete, announced = yield from read_held_call(buffer, self._tools)
            else:
                body, complete = yield from read_object(buffer, self._tag)
            self._unsaid += body
            if not buffer.text and not complete:
                self._unsaid = "" if announced else self._unsaid
                break
            calls = self._interpret(lead, body)
            if calls is None and (self._tag or self._called):
                continue
            if not calls:
                yield content(self._rest())
                return
            self._unsaid, self._called = "", True
            yield from emitted(calls)
        yield content(self._rest())

    def _interpret(self, lead: str, body: str) -> list[ToolCall] | None:
        """The calls of known tools in an object; None if it cannot be read."""
        try:
            value = parse(body)
            name = json_calls.name_of(value)
            if name in self._tools and json_calls.has_arguments(value):
                return [json_calls.read_call(value)]
            if before := self._names.findall(lead.rpartition(self._tag)[2] if self._tag else lead):
                return [ToolCall(before[-1], value)]
            return [call for call in json_calls.read_calls(value, self._tools) if call.name in self._tools]
        except Unreadable:
            return None

    def _rest(self) -> str:
        """The text that was read and not emitted, without what only follows a call."""
        if not self._called:
            return self._unsaid
        start = self._unsaid.rfind(self._tag) if self._tag and self._tag in self._unsaid else self._unsaid.find("{")
        return self._unsaid[start:] if start >= 0 else ""
