"""A conversation: what was said, and with which settings the next answer is asked for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from cli.answer import Answer, Look
from cli.arguments import Format, Think
from cli.client import ChatResponse, Client, GenerateResponse


@dataclass(kw_only=True)
class Session:
    """The state of `pronk run`. `think` None leaves it to the model, `keep_alive` None to the server.

    `verbose` tells after each answer what it cost, `look` how answers are shown.
    """

    model: str
    think: Think | None = None
    format: Format = None
    keep_alive: str | None = None
    system: str = ""
    verbose: bool = False
    look: Look = field(default_factory=Look)
    options: dict[str, Any] = field(default_factory=dict)
    messages: list[dict[str, str]] = field(default_factory=list)

    def generate(self, client: Client, prompt: str) -> Iterator[GenerateResponse]:
        """The answer to a single prompt."""
        return client.generate(
            self.model,
            prompt,
            stream=True,
            system=self.system,
            think=self.think,
            format=self.format,
            options=self.options or None,
            keep_alive=self.keep_alive,
        )

    def chat(self, client: Client, text: str) -> Iterator[ChatResponse]:
        """The answer to the next message."""
        system = [{"role": "system", "content": self.system}] if self.system else []
        return client.chat(
            self.model,
            [*system, *self.messages, {"role": "user", "content": text}],
            stream=True,
            think=self.think,
            format=self.format,
            options=self.options or None,
            keep_alive=self.keep_alive,
        )

    def load(self, client: Client) -> None:
        """Have the model ready before the first message."""
        client.generate(self.model, keep_alive=self.keep_alive)

    def remember(self, text: str, answer: Answer) -> None:
        """Add a turn. Of an answer that was interrupted, what there is; of none at all, nothing."""
        if not answer.content and not answer.thinking:
            return
        reply = {"role": "assistant", "content": answer.content, "thinking": answer.thinking}
        self.messages.append({"role": "user", "content": text})
        self.messages.append({key: value for key, value in reply.items() if value or key != "thinking"})

    def forget(self) -> None:
        """Start over with the same settings."""
        self.messages.clear()
