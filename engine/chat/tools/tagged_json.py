"""JSON between two tags: `<tool_call>{"name": …, "arguments": {…}}</tool_call>`, one object, several, or an array.

Written by Hermes, Qwen 2.5 and 3, Granite, Phi 4, Nemotron, Apertus, Jamba, Command R and many more.
"""

from __future__ import annotations

from dataclasses import dataclass

from engine.chat.tape import Script, Tape, content
from engine.chat.tools import spoken
from engine.chat.tools.calls import MalformedCall, Unreadable, emitted
from engine.chat.tools.declared import Toolbox
from engine.chat.tools.format import Turn
from engine.chat.tools.jsontext import BadJSON, parse, read_object
from engine.chat.tools.shape import json_call
from engine.requests import Delta

HERMES_CALLS = json_call("<tool_call>\n", "\n</tool_call>", between="\n")


@dataclass(frozen=True, slots=True)
class TaggedJSON:
    """A reader of such calls. `closing` may be "" where calls are the last thing in an answer; `also` are other
    spellings of the opening tag.

    A block without a readable call is given back as content, or fails the answer where `complaint` is set: the words
    before the fault in its JSON. `trim_after`: whitespace behind a block is dropped.
    """

    opening: str = "<tool_call>"
    closing: str = "</tool_call>"
    complaint: str | None = None
    trim_after: bool = False
    also: tuple[str, ...] = ()

    def __call__(self, tape: Tape, turn: Turn) -> Script[None]:
        """Read the content of an answer. Raises MalformedCall."""
        while (yield from tape.pour(content, self.opening, *self.also, trim=True)):
            yield from self.read_block(tape, turn.tools)
            if self.trim_after:
                yield from tape.skip_space()

    def read_block(self, tape: Tape, tools: Toolbox) -> Script[None]:
        """Emit the calls of one block, each at its last brace. The opening tag is consumed."""
        unsaid, called = "", False
        while True:
            lead, mark = yield from tape.upto(*filter(None, ("{", self.closing)))
            unsaid += lead
            if mark != "{":
                break
            body, _ = yield from read_object(tape, self.closing)
            try:
                calls = spoken.read_calls(parse(body), tools)
            except Unreadable:
                unsaid += body
            else:
                yield from emitted(calls)
                unsaid, called = "", True
        closing = tape.take(len(mark))
        if not called:
            yield self._without_call(unsaid, closing, tools)
        elif "{" in unsaid:
            yield content(unsaid[unsaid.index("{") :] + closing)

    def _without_call(self, text: str, closing: str, tools: Toolbox) -> Delta:
        """A block that calls nothing; one that the end of the answer has cut off is never a fault."""
        if self.complaint is not None and closing:
            try:
                spoken.read_calls(parse(text), tools)
            except BadJSON as error:
                raise MalformedCall(self.complaint + str(error)) from None
            except Unreadable as error:
                raise MalformedCall(str(error)) from None
        return content(self.opening + text + closing)
