"""A conversation: its messages, and the settings for the next answer."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from cli.answer import AnswerPrinter, Look
from cli.arguments import Format, Think
from cli.attachments import Attachment, attach, begins_with_file, tell_of_files
from cli.client import Client
from cli.progress import follow_load, is_shown
from cli.reply import Reply


@dataclass(kw_only=True)
class Session:
    """The state of `pronk run`. `think` None is the model's default, `keep_alive` and `truncate` None the server's.

    `think_is_chosen`: by the user, so another model does not change it. `verbose` prints timings after each answer;
    `look` says how answers are printed. `takes_files`: the model sees or hears, so files that a message names go along.
    """

    model: str
    think: Think | None = None
    think_is_chosen: bool = False
    truncate: bool | None = None
    output_format: Format = None
    keep_alive: str | None = None
    system: str = ""
    verbose: bool = False
    takes_files: bool = False
    look: Look = field(default_factory=Look)
    options: dict[str, Any] = field(default_factory=dict)
    messages: list[dict[str, Any]] = field(default_factory=list)

    def adapt_to(self, capabilities: Collection[str]) -> None:
        """Note what the model can do. One that can think does, unless the user has chosen."""
        if not self.think_is_chosen:
            self.think = True if "thinking" in capabilities else None
        self.takes_files = not {"vision", "audio"}.isdisjoint(capabilities)

    def begins_with_file(self, text: str) -> bool:
        """Whether the text is a message that begins with a file's path, which is no command then."""
        return self.takes_files and begins_with_file(text)

    def message(self, text: str, files: Iterable[Attachment] = ()) -> dict[str, Any]:
        """A message of the user, with the files that it names. Raises CommandError for one that cannot be read."""
        named: list[Attachment] = []
        if self.takes_files:
            text, named = attach(text)
        else:
            tell_of_files(text)
        contents = [file.content for file in (*files, *named)]
        return {"role": "user", "content": text} | ({"images": contents} if contents else {})

    def generate(self, client: Client, message: dict[str, Any]) -> Iterator[Reply]:
        """Stream the answer to a single message."""
        images = message.get("images", [])
        return client.generate(self.model, message["content"], images, system=self.system, **self._settings)

    def chat(self, client: Client, message: dict[str, Any]) -> Iterator[Reply]:
        """Stream the answer to the next message."""
        system = [{"role": "system", "content": self.system}] if self.system else []
        return client.chat(self.model, [*system, *self.messages, message], **self._settings)

    @property
    def _settings(self) -> dict[str, Any]:
        """The fields of a request that chats and single prompts share; those that are None are not sent."""
        return {
            "think": self.think,
            "format": self.output_format,
            "options": self.options or None,
            "keep_alive": self.keep_alive,
            "truncate": self.truncate,
            "progress": is_shown() or None,
        }

    def load(self, client: Client, model: str = "") -> None:
        """Load a model, by default the session's, before the first message."""
        asked = {"keep_alive": self.keep_alive, "progress": is_shown() or None}
        follow_load(client.load(model or self.model, **asked))

    def remember(self, message: dict[str, Any], answer: AnswerPrinter) -> None:
        """Add the message and its answer, which may be incomplete. Does nothing without an answer."""
        if not answer.content and not answer.thinking:
            return
        reply = {"role": "assistant", "content": answer.content, "thinking": answer.thinking}
        self.messages.append(message)
        self.messages.append({key: value for key, value in reply.items() if value or key != "thinking"})

    def forget(self) -> None:
        """Forget the messages, keep the settings."""
        self.messages.clear()
