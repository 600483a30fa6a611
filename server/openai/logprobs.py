"""Log-probabilities as OpenAI's APIs write them."""

from __future__ import annotations

import codecs
import math
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


def _entry(entry: TokenLogprob) -> dict[str, Any]:
    return {"token": entry.text, "logprob": _number(entry.logprob), "bytes": list(entry.data)}


def _number(logprob: float) -> float | None:
    """A log-probability as JSON has it; None for the first token of a prompt, which has none."""
    return None if math.isnan(logprob) else max(logprob, _LEAST)


class TextLogprobs:
    """`logprobs` of a text completion, piece by piece: each token has the place in the text where it begins."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._offset = 0  # characters

    def add(self, entries: Sequence[TokenLogprob]) -> dict[str, Any]:
        """The lists of these tokens. The likeliest of each are with the token itself, if it has a number."""
        offsets = []
        for entry in entries:
            offsets.append(self._offset)
            self._offset += len(self._decoder.decode(entry.data))
        return {
            "tokens": [_name(entry) for entry in entries],
            "token_logprobs": [_number(entry.logprob) for entry in entries],
            "top_logprobs": [_top(entry) for entry in entries],
            "text_offset": offsets,
        }


def _top(entry: TokenLogprob) -> dict[str, float | None] | None:
    if math.isnan(entry.logprob):
        return None
    return {_name(other): _number(other.logprob) for other in (*entry.top, entry)}


def _name(entry: TokenLogprob) -> str:
    """The text of a token; one that is no text by its bytes, so that it has a name of its own."""
    try:
        return entry.data.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in entry.data)
