"""Log-probabilities as OpenAI's APIs write them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from engine.api import TokenLogprob

_LEAST = -9999.0
"""What OpenAI writes for a token that could not come: JSON has no infinity."""


def content_logprobs(entries: Sequence[TokenLogprob]) -> dict[str, Any]:
    """`logprobs` of a chat's choice."""
    return {"content": token_logprobs(entries)}


def token_logprobs(entries: Sequence[TokenLogprob]) -> list[dict[str, Any]]:
    """Tokens, each with the likeliest in its place."""
    return [_entry(entry) | {"top_logprobs": [_entry(other) for other in entry.top]} for entry in entries]


def token_text(entry: TokenLogprob) -> str:
    """The text of a token, which need not be whole characters."""
    return entry.data.decode("utf-8", "replace")


def logprob_of(entry: TokenLogprob) -> float:
    """The log-probability as a JSON number."""
    return max(entry.logprob, _LEAST)


def _entry(entry: TokenLogprob) -> dict[str, Any]:
    return {"token": token_text(entry), "logprob": logprob_of(entry), "bytes": list(entry.data)}
