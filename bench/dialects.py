"""How servers are asked and what they answer: Ollama's API, and OpenAI's as llama-server speaks it."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from bench.options import request_options

Message = tuple[str, str]
"""Role and content."""

Post = tuple[str, dict[str, Any]]
"""The path and the JSON body of a POST."""


@dataclass(frozen=True, slots=True)
class Request:
    """What one stream asks for: at most `tokens` tokens after a raw prompt, or after `messages` where there are any.

    The first message shows the `pictures`. `schema` is a JSON schema that the answer is held to. Without a `seed` the
    server draws one for each answer.
    """

    tokens: int
    prompt: str = ""
    messages: tuple[Message, ...] = ()
    schema: Mapping[str, Any] | None = None
    seed: int | None = None
    pictures: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class Piece:
    """What a line of a stream says: some text, how many tokens the whole answer has, or what went wrong."""

    text: str = ""
    tokens: int | None = None
    error: str = ""


class Dialect(Protocol):
    """One kind of API. `name` is that of the server known for it."""

    @property
    def name(self) -> str:
        """The name in tables."""

    def ask(self, model: str, request: Request) -> Post:
        """The POST for a streamed answer."""

    def embed(self, model: str, text: str) -> Post:
        """The POST for one embedding."""

    def read(self, line: bytes) -> Piece:
        """A line of a streamed answer."""


class OllamaAPI:
    """`/api/generate` and `/api/chat`: a line of JSON for each token, the last one with the counts."""

    name = "Ollama"

    def ask(self, model: str, request: Request) -> Post:
        """The POST for a streamed answer."""
        fields: dict[str, Any] = {"model": model, "think": False, "options": request_options(request.tokens)}
        if request.seed is not None:
            fields["options"]["seed"] = request.seed
        if request.schema is not None:
            fields["format"] = request.schema
        if request.messages:
            messages = _messages(request)
            if request.pictures:
                messages[0]["images"] = _encoded(request)
            return "/api/chat", fields | {"messages": messages}
        return "/api/generate", fields | {"prompt": request.prompt, "raw": True}

    def embed(self, model: str, text: str) -> Post:
        """The POST for one embedding."""
        return "/api/embed", {"model": model, "input": text}

    def read(self, line: bytes) -> Piece:
        """A line of a streamed answer."""
        event = json.loads(line)
        if error := event.get("error"):
            return Piece(error=str(error))
        text = event.get("response") or event.get("message", {}).get("content") or ""
        return Piece(text, event.get("eval_count", 0) if event.get("done") else None)


class OpenAIAPI:
    """`/v1/completions` and `/v1/chat/completions` with llama-server's further fields: server-sent events."""

    name = "llama-server"

    def ask(self, model: str, request: Request) -> Post:
        """The POST for a streamed answer."""
        fields: dict[str, Any] = {"model": model, "stream": True, "stream_options": {"include_usage": True}}
        fields |= request_options(request.tokens)
        fields["max_tokens"] = fields.pop("num_predict")
        fields["chat_template_kwargs"] = {"enable_thinking": False}
        if request.seed is not None:
            fields["seed"] = request.seed
        if request.schema is not None:
            fields["json_schema"] = request.schema
        if request.messages:
            messages = _messages(request)
            if request.pictures:
                urls = [f"data:image/png;base64,{picture}" for picture in _encoded(request)]
                parts = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
                messages[0]["content"] = [{"type": "text", "text": messages[0]["content"]}, *parts]
            return "/v1/chat/completions", fields | {"messages": messages}
        return "/v1/completions", fields | {"prompt": request.prompt, "raw": True}

    def embed(self, model: str, text: str) -> Post:
        """The POST for one embedding."""
        return "/v1/embeddings", {"model": model, "input": text}

    def read(self, line: bytes) -> Piece:
        """A line of a streamed answer; blank lines and `[DONE]` say nothing."""
        kind, _, data = line.partition(b":")
        if kind not in (b"data", b"error") or data.strip() in (b"", b"[DONE]"):
            return Piece()
        event = json.loads(data)
        if kind == b"error" or "error" in event:
            return Piece(error=json.dumps(event.get("error", event)))
        usage = event.get("usage")
        text = "".join(_text(choice) for choice in event.get("choices", ()))
        return Piece(text, usage["completion_tokens"] if usage else None)


OLLAMA = OllamaAPI()
LLAMA_SERVER = OpenAIAPI()


def _messages(request: Request) -> list[dict[str, Any]]:
    return [{"role": role, "content": content} for role, content in request.messages]


def _encoded(request: Request) -> list[str]:
    return [base64.b64encode(picture).decode() for picture in request.pictures]


def _text(choice: Mapping[str, Any]) -> str:
    delta = choice.get("delta", {})
    text: str = choice.get("text") or delta.get("content") or delta.get("reasoning_content") or ""
    return text
