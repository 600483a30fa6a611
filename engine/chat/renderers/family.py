"""What all named renderers have in common: the conversation they are given and the promise they keep."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import ClassVar

from engine.api import Message, Think, Tool
from engine.chat.prompt import Prompt, TemplateError


@dataclass(frozen=True, slots=True)
class Chat:
    """What a prompt is made of. `think` is None if the request leaves it to the model."""

    messages: Sequence[Message]
    tools: Sequence[Tool]
    think: Think | None

    def thinks(self, *, unless_said: bool) -> bool:
        """Whether the model is to reason; `unless_said` is the family's habit."""
        return unless_said if self.think is None else bool(self.think)

    def split_system(self, *roles: str) -> tuple[str | None, Sequence[Message]]:
        """The text of the first message, if it has one of these roles, and the messages behind it."""
        if self.messages and self.messages[0].role in roles:
            return self.messages[0].content, self.messages[1:]
        return None, self.messages


class NamedRenderer(ABC):
    """One family's way of writing a conversation. Immutable: `render` may be called from any thread."""

    trims_single_message = True
    bos: ClassVar[str] = ""
    """The start token of the family; a prompt must not begin with it where the tokenizer adds one by itself."""

    def render(self, messages: Sequence[Message], tools: Sequence[Tool], think: Think | None) -> Prompt:
        """The prompt for these messages. Raises TemplateError if the family has no way to write them."""
        try:
            chat = Chat(messages, tools, think)
            return Prompt("".join(self.parts(chat)))
        except RecursionError:
            raise TemplateError("the tools or their arguments are too deeply nested") from None
        except UnicodeError as error:
            raise TemplateError(f"the tools or their arguments are no text: {error}") from None

    @abstractmethod
    def parts(self, chat: Chat) -> Iterator[str]:
        """The text of the prompt, piece by piece."""


def last_user(messages: Sequence[Message]) -> int:
    """Where the user last said something; -1, if nowhere."""
    return max((at for at, message in enumerate(messages) if message.role == "user"), default=-1)


# What most families put around reasoning.

THINK, END_THINK = "<think>", "</think>"


# ChatML, which many families write with small differences: `<|im_start|>role`, a text, `<|im_end|>`.

START = "<|im_start|>"
END = "<|im_end|>\n"
ANSWER = f"{START}assistant\n"


def turn(role: str, text: str) -> str:
    """One whole message."""
    return f"{START}{role}\n{text}{END}"


# Results of tools: several in a row answer one message, and most families write them as one.


def fold_results(messages: Iterable[Message], write: Callable[[Sequence[Message]], str]) -> list[Message]:
    """The messages with each run of results as one of role `tool`, whose content is what `write` makes of the run."""
    folded: list[Message] = []
    for is_result, run in groupby(messages, lambda message: message.role == "tool"):
        if is_result:
            folded.append(Message("tool", write(list(run))))
        else:
            folded += run
    return folded
