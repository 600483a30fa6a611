"""Texts of a body that may come as token ids: prompts of completions, inputs of embeddings."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import PlainValidator

from engine.api import DetokenizeRequest
from server.context import EngineSurface

TokenInput = str | tuple[int, ...]
"""A text, or the ids of its tokens."""


def parse_texts(value: Any, message: str) -> list[TokenInput]:
    """One text, token ids, or a list of either. Raises ValueError with the message for anything else."""
    items = value if isinstance(value, list) and not _is_tokens(value) else [value]
    if not all(isinstance(item, str) or _is_tokens(item) for item in items):
        raise ValueError(message)
    return [item if isinstance(item, str) else tuple(item) for item in items]


def _is_tokens(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(map(_is_token, value))


def _is_token(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 31


_SENT = str | list[str] | list[int] | list[list[int]] | None
_WRONG_PROMPT = "invalid prompt: a text, token ids, or a list of either is expected"

Prompts = Annotated[
    list[TokenInput], PlainValidator(lambda value: parse_texts(value, _WRONG_PROMPT), json_schema_input_type=_SENT)
]
Inputs = Annotated[
    list[TokenInput],
    PlainValidator(lambda value: parse_texts(value, "invalid input type"), json_schema_input_type=_SENT),
]


async def as_text(engine: EngineSurface, model: str, text: TokenInput) -> str:
    """The text, made of its tokens if need be. Raises EngineError."""
    if isinstance(text, str):
        return text
    return (await engine.detokenize(DetokenizeRequest(model=model, tokens=list(text)))).text
