"""A conversation: its messages, and the settings for the next answer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from cli.answer import AnswerPrinter, Look
from cli.arguments import Format, Think
from cli.client import ChatResponse, Client, GenerateResponse


@dataclass(kw_only=True)
class Session:
    """The state of `pronk run`. `think` None is the model's default, `keep_alive` None the server's.

    `verbose` prints timings after each answer; `look` says how answers are printed.
    """

    model: str
    think: Think | None = None
    output_format: Format = None
    keep_alive: str | None = None
    system: str = ""
    verbose: bool = False
    look: Look = field(default_factory=Look)
    options: dict[str, Any] = field(default_factory=dict)
    messages: list[dict[str, str]] = field(default_factory=list)

    def generate(self, client: Client, prompt: str) -> Iterator[GenerateResponse]:
        """Stream the answer to a single prompt."""
        return client.generate(
            self.model,
            prompt,
            stream=True,
            system=self.system,
            think=self.think,
            format=self.output_format,
            options=self.options or None,
            keep_alive=self.keep_alive,
        )

    def chat(self, client: Client, text: str) -> Iterator[ChatResponse]:
        """Stream the answer to the next message."""
        system = [{"role": "system", "content": self.system}] if self.system else []
        return client.chat(
            self.model,
            [*system, *self.messages, {"role": "user", "content": text}],
            stream=True,
            think=self.think,
            format=self.output_format,
            options=self.options or None,
            keep_alive=self.keep_alive,
        )

    def load(self, client: Client) -> None:
        """Load the model before the first message."""
        client.generate(self.model, keep_alive=self.keep_alive)

    def remember(self, text: str, answer: AnswerPrinter) -> None:
        """Add the message and its answer, which may be incomplete. Does nothing without an answer."""
        if not answer.content and not answer.thinking:
            return
        reply = {"role": "assistant", "content": answer.content, "thinking": answer.thinking}
        self.messages.append({"role": "user", "content": text})
        self.messages.append({key: value for key, value in reply.items() if value or key != "thinking"})

    def forget(self) -> None:
        """Forget the messages, keep the settings."""
        self.messages.clear()
