"""What the bodies of `/v1/chat/completions` and `/v1/completions` share."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from server.ollama.fields import Int
from server.openai.reasoning import ReasoningFields
from server.openai.sampling import DEFAULTS, OptionFields, Stop
from server.openai.schemas import StreamOptions
from server.openai.structured import StructureFields


class InferenceBody(OptionFields, ReasoningFields, StructureFields):
    """The fields that both have."""

    model: str = ""
    stream: bool = False
    stream_options: StreamOptions = Field(default_factory=StreamOptions)
    n: Int = 1
    max_tokens: Int | None = None
    seed: Int | None = None
    stop: Stop = None
    temperature: float | None = None
    top_p: float | None = None
    truncate: bool = False
    debug_render_only: bool = Field(default=False, alias="_debug_render_only")

    def shared(self) -> dict[str, Any]:
        """The fields that GenerateRequest and ChatRequest share and that both bodies mean alike."""
        return {
            "model": self.model,
            "defaults": DEFAULTS,
            "keep_alive": self.keep_alive,
            "think": self.think,
            "format": self.format,
            "truncate": self.truncate,
        }
