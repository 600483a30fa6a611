"""Base of all named renderers, and what several families share: ChatML, tool results folded into one message."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import ClassVar

from engine.api import Message, Think, Tool
from engine.chat.prompt import Prompt, RenderError


@dataclass(frozen=True, slots=True)
class Chat:
    """A conversation to render. `think` is None if the request leaves it to the model."""

    messages: Sequence[Message]
    tools: Sequence[Tool]
    think: Think | None

    def thinks(self, *, default: bool) -> bool:
        """Whether the model is to reason; `default` if the request does not say."""
        return default if self.think is None else bool(self.think)

    def split_system(self, *roles: str) -> tuple[str | None, Sequence[Message]]:
        """The text of the first message if it has one of these roles (else None), and the other messages."""
        if self.messages and self.messages[0].role in roles:
            return self.messages[0].content, self.messages[1:]
        return None, self.messages


class NamedRenderer(ABC):
    """Renders conversations for one family of models. Immutable: `render` may be called from any thread."""

    trims_single_message = True
    bos: ClassVar[str] = ""
    """The family's start token; to be removed from prompts if the tokenizer adds one itself."""

    def render(self, messages: Sequence[Message], tools: Sequence[Tool], think: Think | None) -> Prompt:
        """The prompt for these messages. Raises RenderError if the family cannot write them."""
        try:
            chat = Chat(messages, tools, think)
            return Prompt("".join(self.parts(chat)))
        except RecursionError:
            raise RenderError("the tools or their arguments are too deeply nested") from None
        except UnicodeError as error:
            raise RenderError(f"the tools or their arguments are no text: {error}") from None

    @abstractmethod
    def parts(self, chat: Chat) -> Iterator[str]:
        """The pieces of the prompt, in order."""


def last_user(messages: Sequence[Message]) -> int:
    """Index of the last message of the user, -1 if there is none."""
    return max((at for at, message in enumerate(messages) if message.role == "user"), default=-1)


# The tags that most families put around reasoning.

THINK, END_THINK = "<think>", "</think>"


# ChatML: `<|im_start|>role`, a text, `<|im_end|>`.

START = "<|im_start|>"
END = "<|im_end|>\n"
ANSWER = f"{START}assistant\n"


def chatml(role: str, text: str) -> str:
    """A message as ChatML."""
    return f"{START}{role}\n{text}{END}"


def fold_results(messages: Iterable[Message], write: Callable[[Sequence[Message]], str]) -> list[Message]:
    """The messages with each run of tool results as one message of role `tool`, whose content `write` makes."""
    folded: list[Message] = []
    for is_result, run in groupby(messages, lambda message: message.role == "tool"):
        if is_result:
            folded.append(Message("tool", write(list(run))))
        else:
            folded += run
    return folded
