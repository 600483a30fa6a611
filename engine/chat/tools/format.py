"""What a parser is: a script over an answer, and what it may know about the request."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from engine.chat.tape import Script, Tape
from engine.chat.tools.declared import Toolbox
from engine.chat.tools.shape import NO_SHAPE, Shape
from engine.requests import Message


@dataclass(frozen=True, slots=True)
class Turn:
    """The request that is being answered.

    `think`: whether reasoning was asked for. `last` is the last message of the conversation: an assistant's is
    continued by the answer. `prompt` is the text the model got; only its end matters.
    """

    tools: Toolbox = field(default_factory=Toolbox)
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


Reader = Callable[[Tape, Turn], Script[None]]


@dataclass(frozen=True, slots=True)
class Format:
    """A way of writing answers. `tools` and `thinking` say what it can express.

    `preserved` are special tokens that mean something to the reader: they must reach it as text, while other
    special tokens are nobody's business. `shape` tells how such an answer is written.
    """

    read: Reader
    tools: bool = True
    thinking: bool = False
    preserved: tuple[str, ...] = ()
    shape: Shape = NO_SHAPE
