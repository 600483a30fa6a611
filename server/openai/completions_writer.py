"""Writes the answers of `/v1/completions`, whole and streamed."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from engine.api import Delta, Final, Rendered
from server.http.json_output import encode
from server.http.streaming import Framing
from server.ollama.writer import debug_info
from server.openai.logprobs import TextLogprobs
from server.openai.usage import usage_of
from server.openai.writer import ChoicesWriter


class CompletionWriter(ChoicesWriter):
    """Writes completions. Reasoning has no place in them and is left out."""

    prefix, kind, chunk_kind = "cmpl", "text_completion", "text_completion"

    def __init__(self, model: str, **common: Any) -> None:
        super().__init__(model, **common)
        self._logprobs: dict[int, TextLogprobs] = defaultdict(TextLogprobs)
        if self.include_usage:  # as Ollama: zeros before the last object
            self.chunk_tail = b'],"usage":{"prompt_tokens":0,"completion_tokens":0,"total_tokens":0}}'

    def chunks(self, index: int, delta: Delta) -> bytes:
        """The chunk of a piece; none for reasoning alone."""
        if not delta.content and not delta.logprobs:
            return b""
        return self.frame(encode(self._object(index, delta, None)))

    def last_chunk(self, index: int, final: Final) -> bytes:
        """The chunk with the reason of the end, and no text."""
        return self.frame(encode(self._object(index, Delta(), _reason(final))))

    def choice(self, index: int, delta: Delta, final: Final) -> dict[str, Any]:
        """A whole choice."""
        return self._object(index, delta, _reason(final))

    def without_text(self) -> bytes:
        """The answer to a request without a prompt, which loads or unloads the model."""
        choice = {"text": "", "index": 0, "finish_reason": "stop"}
        if self.framing is Framing.SSE:
            return self.frame(encode(choice)) + self.end()
        return encode({**self.head, "choices": [choice], "usage": usage_of({})}) + b"\n"

    def rendered(self, rendered: Rendered) -> bytes:
        """The object with the rendered prompt, and an empty answer."""
        choice = {"text": "", "index": 0, "finish_reason": None}
        info = {"usage": usage_of({}), "_debug_info": debug_info(rendered)}
        return encode({**self.head, "choices": [choice], **info}) + b"\n"

    def _object(self, index: int, delta: Delta, reason: str | None) -> dict[str, Any]:
        logprobs = {"logprobs": self._logprobs[index].add(delta.logprobs)} if delta.logprobs else {}
        return {"text": delta.content, "index": index, "finish_reason": reason, **logprobs}


def _reason(final: Final) -> str:
    """A completion knows no tool calls."""
    return "stop" if final.done_reason == "tool_calls" else final.done_reason
