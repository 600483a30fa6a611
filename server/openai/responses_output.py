"""The items of an answer of `/v1/responses`: reasoning, text, calls. Each tells the events of its writing."""

from __future__ import annotations

import secrets
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, Literal

import msgspec

from engine.api import TokenLogprob
from server.openai.logprobs import token_logprobs
from server.openai.responses_tools import INPUT, OfferedTool

Emitted = tuple[str, dict[str, Any]]
"""An event: its type and its payload."""
Status = Literal["completed", "incomplete"]


def new_id(prefix: str) -> str:
    """An id that no other object has."""
    return f"{prefix}_{secrets.token_hex(12)}"


class OutputItem(ABC):
    """An item at its place in the output. It is begun once, gets its pieces, and is ended once."""

    prefix: ClassVar[str]

    def __init__(self, index: int) -> None:
        self.index = index
        self.id = new_id(self.prefix)
        self._pieces: list[str] = []

    @property
    def text(self) -> str:
        """All that was added."""
        return "".join(self._pieces)

    @abstractmethod
    def begin(self) -> Iterator[Emitted]:
        """The events before the first piece."""

    @abstractmethod
    def add(self, piece: str) -> Iterator[Emitted]:
        """The events of a piece of text."""

    @abstractmethod
    def end(self, status: Status) -> Iterator[Emitted]:
        """The events behind the last piece."""

    @abstractmethod
    def object(self, status: Status) -> dict[str, Any]:
        """The item as it stands in the output."""

    def _event(self, kind: str, **payload: Any) -> Emitted:
        return f"response.{kind}", {"item_id": self.id, "output_index": self.index, **payload}

    def _item_event(self, kind: str, item: dict[str, Any]) -> Emitted:
        return f"response.output_item.{kind}", {"output_index": self.index, "item": item}


class Reasoning(OutputItem):
    """What the model thought, plain in `summary` and in `encrypted_content`, which clients send back."""

    prefix = "rs"

    def begin(self) -> Iterator[Emitted]:
        """The item without text."""
        yield self._item_event("added", {"id": self.id, "type": "reasoning", "summary": []})

    def add(self, piece: str) -> Iterator[Emitted]:
        """A piece of the only summary."""
        self._pieces.append(piece)
        yield self._event("reasoning_summary_text.delta", summary_index=0, delta=piece)

    def end(self, status: Status) -> Iterator[Emitted]:
        """The whole text and the item."""
        yield self._event("reasoning_summary_text.done", summary_index=0, text=self.text)
        yield self._item_event("done", self.object(status))

    def object(self, status: Status) -> dict[str, Any]:
        """The item; it has no status."""
        summary = [{"type": "summary_text", "text": self.text}]
        return {"id": self.id, "type": "reasoning", "summary": summary, "encrypted_content": self.text}


class Text(OutputItem):
    """A message with one part of text."""

    prefix = "msg"

    def __init__(self, index: int) -> None:
        super().__init__(index)
        self._logprobs: list[dict[str, Any]] = []

    def begin(self) -> Iterator[Emitted]:
        """The message without its part, then the part without text."""
        yield self._item_event("added", self._message("in_progress", []))
        yield self._event("content_part.added", content_index=0, part=_text_part("", []))

    def add(self, piece: str, logprobs: Sequence[TokenLogprob] = ()) -> Iterator[Emitted]:
        """A piece of the text, with the log-probabilities of its tokens."""
        self._pieces.append(piece)
        tokens = token_logprobs(logprobs)
        self._logprobs += tokens
        yield self._event("output_text.delta", content_index=0, delta=piece, logprobs=tokens)

    def end(self, status: Status) -> Iterator[Emitted]:
        """The whole text, the part, the message."""
        part = _text_part(self.text, self._logprobs)
        yield self._event("output_text.done", content_index=0, text=part["text"], logprobs=self._logprobs)
        yield self._event("content_part.done", content_index=0, part=part)
        yield self._item_event("done", self.object(status))

    def object(self, status: Status) -> dict[str, Any]:
        """The message."""
        return self._message(status, [_text_part(self.text, self._logprobs)])

    def _message(self, status: str, content: list[Any]) -> dict[str, Any]:
        return {"id": self.id, "type": "message", "status": status, "role": "assistant", "content": content}


class Call(OutputItem):
    """A call of a function; its text is the arguments as JSON."""

    prefix = "fc"
    _events: ClassVar[str] = "function_call_arguments"
    _type: ClassVar[str] = "function_call"
    _key: ClassVar[str] = "arguments"

    def __init__(self, index: int, call_id: str, tool: OfferedTool) -> None:
        super().__init__(index)
        self._call_id = call_id or new_id("call")
        self._tool = tool

    def begin(self) -> Iterator[Emitted]:
        """The call without arguments."""
        yield self._item_event("added", self._call("in_progress", ""))

    def add(self, piece: str) -> Iterator[Emitted]:
        """A piece of the arguments."""
        self._pieces.append(piece)
        yield self._event(f"{self._events}.delta", delta=piece)

    def end(self, status: Status) -> Iterator[Emitted]:
        """The whole arguments, then the call."""
        yield self._event(f"{self._events}.done", **{self._key: self.text})
        yield self._item_event("done", self.object(status))

    def object(self, status: Status) -> dict[str, Any]:
        """The call."""
        return self._call(status, self.text)

    def _call(self, status: str, text: str) -> dict[str, Any]:
        namespace = {"namespace": self._tool.namespace} if self._tool.namespace else {}
        named = {"call_id": self._call_id, **namespace, "name": self._tool.name}
        return {"id": self.id, "type": self._type, "status": status, **named, self._key: text}

    def forget(self) -> None:
        """Forget the pieces, of which no event was sent."""
        self._pieces.clear()

    def written(self, arguments: dict[str, Any]) -> str:
        """The text of arguments that come in one piece."""
        return msgspec.json.encode(arguments).decode()


class CustomCall(Call):
    """A call of a custom tool; its text is the input."""

    prefix = "ctc"
    _events = "custom_tool_call_input"
    _type = "custom_tool_call"
    _key = "input"

    def written(self, arguments: dict[str, Any]) -> str:
        """The input; all of the arguments if the model has made up others."""
        text = arguments.get(INPUT)
        return text if isinstance(text, str) else super().written(arguments)


def _text_part(text: str, logprobs: list[dict[str, Any]]) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": logprobs}
