"""Requests and answers of `/v1/completions`."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field

from engine.api import GenerateRequest
from server.http.openapi import AnswerObject
from server.ollama.fields import Int
from server.openai.inference_body import InferenceBody
from server.openai.schemas import DebugInfo, Usage
from server.openai.token_input import Prompts, TokenInput


class CompletionBody(InferenceBody):
    """`POST /v1/completions`.

    A prompt goes through the model's template, unless it is `raw`, consists of token ids, or is wanted back with its
    log-probabilities (`echo` and `logprobs`).
    """

    go: ClassVar[str] = "openai.CompletionRequest"

    prompt: Prompts = Field(default_factory=list)
    suffix: str = ""
    raw: bool = False
    echo: bool = False
    best_of: Int = 1
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    logprobs: Int | None = None

    @property
    def generates_nothing(self) -> bool:
        """Whether only the prompt is wanted, as text or with its log-probabilities."""
        return self.max_tokens == 0

    def name_of(self, field: str) -> str:
        """This body's name for a field of the engine's requests."""
        return "prompt" if field == "tokens" else super().name_of(field)

    def request(self, prompt: TokenInput) -> GenerateRequest:
        """The request for the engine. Raises HTTPError."""
        scored = self.echo and self.logprobs is not None
        return GenerateRequest(
            **self.shared(),
            options=self._options(),
            logprobs=self.logprobs is not None,
            top_logprobs=self.logprobs or 0,
            prompt=prompt if isinstance(prompt, str) else "",
            prompt_tokens=() if isinstance(prompt, str) else prompt,
            prompt_logprobs=scored,
            suffix=self.suffix,
            raw=self.raw or scored or not isinstance(prompt, str),
        )

    def _options(self) -> dict[str, Any]:
        named = {
            "num_predict": 1
            if self.generates_nothing
            else self.max_tokens,  # one token is the least that can be asked for
            "stop": self.stop,
            "frequency_penalty": self.frequency_penalty,
            "presence_penalty": self.presence_penalty,
        }
        options = {"temperature": 1.0, "top_p": 1.0} | self.options_with(named)
        return options | ({} if options["top_p"] else {"top_p": 1.0})


# Answers. The writer encodes them by hand; these models only describe them in the OpenAPI document.


class CompletionLogprobs(AnswerObject):
    """The tokens of the text, of which the first of a prompt has no log-probability, and where they begin in it."""

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None] | None
    text_offset: list[int]


class CompletionChoice(AnswerObject):
    """One of the answers, or a piece of it."""

    text: str
    index: int
    finish_reason: str | None
    logprobs: CompletionLogprobs | None = None


class Completion(AnswerObject):
    """The answers, whole or a piece of one. In a stream only the last object has token counts."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    system_fingerprint: str
    choices: list[CompletionChoice]
    usage: Usage | None = None
    debug_info: DebugInfo | None = Field(default=None, alias="_debug_info")
