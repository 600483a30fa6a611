"""The format of models whose Go template tells only how a call begins: a tag, then objects with name and arguments."""

from __future__ import annotations

import re
from functools import partial

from engine.chat.tape import Script, Tape, content
from engine.chat.tools import spoken
from engine.chat.tools.calls import Unreadable, emitted
from engine.chat.tools.combined import after_thinking, with_tools
from engine.chat.tools.declared import Toolbox
from engine.chat.tools.format import Format, Reader, Turn
from engine.chat.tools.jsontext import parse, read_object
from engine.chat.tools.shape import CallShape, Shape, json_call, json_list
from engine.requests import ToolCall

_BARE = ("{", "[")


def tagged(tag: str) -> Reader:
    """The reader for calls that begin with `tag`. `{` and `[` are no tags: such a call is the whole answer."""
    return with_tools(_read_bare if tag in _BARE else partial(_read_tagged, tags=spellings(tag)))


def template_format(tag: str, thinking: tuple[str, str] = ("", "")) -> Format:
    """The format of a model whose Go template shows `tag` before calls, and these tags, if both, around reasoning."""
    end = {"<": ">", "[": "]"}.get(tag[0], "")
    preserved = (tag[: tag.index(end) + 1],) if end in tag[1:] and end else ()
    read = tagged(tag)
    if not all(thinking):
        return Format(read, True, False, preserved, Shape(calls=tagged_calls(tag)))
    shape = Shape(thinking, calls=tagged_calls(tag), asks=True)
    return Format(after_thinking(read, *thinking, ask=True), True, True, preserved, shape)


def tagged_calls(tag: str) -> CallShape:
    """A way of writing calls that begin with `tag`, which the reader of `tagged` reads."""
    if tag == "{":
        return json_call()
    if tag.endswith("["):
        return json_list(tag[:-1])
    closing = f"\n</{tag[1:]}" if tag.startswith("<") and tag.endswith(">") else ""
    return json_call(f"{tag}\n", closing, between="\n")


def spellings(tag: str) -> tuple[str, ...]:
    """A tag as models write it: whitespace inside may be missing or of another kind."""
    words = tag.split()
    return tuple({glue.join(words): None for glue in ("", " ", "\n")} | {tag: None})


def _read_tagged(tape: Tape, turn: Turn, tags: tuple[str, ...]) -> Script[None]:
    while found := (yield from tape.pour(content, *tags)):
        yield from _Calls(turn.tools, found, found).read(tape)


def _read_bare(tape: Tape, turn: Turn) -> Script[None]:
    yield content((yield from tape.skip_space()))
    opening = yield from tape.accept("[")
    opening += yield from tape.skip_space()
    if brace := (yield from tape.accept("{")):
        tape.unread(brace)
        yield from _Calls(turn.tools, "", opening).read(tape)
    else:
        yield content(opening)
    yield from tape.pour(content)


class _Calls:
    """Reads the objects of one answer, or those behind one tag ("": the answer began with them).

    What turns out to be no call is given back as content. Behind a call all is silent up to the next tag or object,
    because the ends of calls are not known.
    """

    def __init__(self, tools: Toolbox, tag: str, consumed: str) -> None:
        self._tools = tools
        self._tag = tag
        self._unsaid = consumed
        self._called = False
        names = "|".join(re.escape(name) for name in sorted(tools.names, key=len, reverse=True))
        self._names = re.compile(rf"(?<![\w-])(?:{names})(?![\w-])")

    def read(self, tape: Tape) -> Script[None]:
        """Emit calls until the answer ends, or something that is no call was given back."""
        while True:
            lead, _ = yield from tape.upto("{")
            self._unsaid += lead
            body, complete = yield from read_object(tape, self._tag)
            self._unsaid += body
            if not tape.text and not complete:
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
        """The calls of tools in an object; None if it cannot be read."""
        try:
            value = parse(body)
            name = spoken.name_of(value)
            if name in self._tools and spoken.has_arguments(value):
                return [spoken.read_call(value)]
            if before := self._names.findall(lead.rpartition(self._tag)[2] if self._tag else lead):
                return [ToolCall(before[-1], value)]
            return [call for call in spoken.read_calls(value, self._tools) if call.name in self._tools]
        except Unreadable:
            return None

    def _rest(self) -> str:
        """What was read, was no call, and is not just what follows a call."""
        if not self._called:
            return self._unsaid
        start = self._unsaid.rfind(self._tag) if self._tag and self._tag in self._unsaid else self._unsaid.find("{")
        return self._unsaid[start:] if start >= 0 else ""
