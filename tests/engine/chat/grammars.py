"""What grammars allow, asked of the library that holds models to them, byte by byte."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from typing import Any

import numpy as np
from llguidance import LLMatcher

from engine.chat.grammar.json_grammar import INDENTED, json_rules
from engine.runner.grammar import Grammars, limits
from engine.runner.grammar_check import BYTES, ByteVocabulary

GRAMMARS = Grammars(ByteVocabulary())
_CLOSING = b'"}]'
_MOST = 400  # bytes of an answer made at random


def matcher_of(rules: str) -> LLMatcher:
    """The beginning of a text that a grammar allows."""
    matcher = LLMatcher(GRAMMARS._tables.tokenizer, rules, log_level=0, limits=limits())
    assert not matcher.is_error(), matcher.get_error()
    return matcher


def schema_matcher(schema: Any, spaces: str = INDENTED, reserved: Sequence[str] = ()) -> LLMatcher:
    """The beginning of JSON that matches a schema."""
    return matcher_of(f"start: value\n{json_rules(schema, 'value', spaces, reserved).text}")


def allows(matcher: LLMatcher, text: str) -> bool:
    """Whether the grammar allows the whole text."""
    matcher = matcher.deep_copy()
    data = list(text.encode())
    return matcher.try_consume_tokens(data) == len(data) and bool(matcher.is_accepting())


def allows_value(schema: Any, value: Any) -> bool:
    """Whether a schema's grammar allows a value."""
    return allows(schema_matcher(schema), json.dumps(value, ensure_ascii=False))


def written_at_random(matcher: LLMatcher, chance: random.Random) -> str | None:
    """Some text that the grammar allows; None where it did not come to an end."""
    matcher = matcher.deep_copy()
    mask = np.zeros(-(-(BYTES + 1) // 32), np.uint32)
    written = bytearray()
    while len(written) < _MOST:
        matcher.unsafe_compute_mask_ptr(mask.ctypes.data, mask.nbytes)
        assert not matcher.is_error(), matcher.get_error()
        allowed = np.flatnonzero(np.unpackbits(mask.view(np.uint8), bitorder="little")[: BYTES + 1]).tolist()
        assert allowed, f"nothing can follow {bytes(written)!r}"
        if allowed[-1] == BYTES and (len(allowed) == 1 or chance.random() < 0.5):
            return written.decode("utf-8", "replace")
        closing = [byte for byte in allowed if byte < BYTES and byte in _CLOSING] if chance.random() < 0.4 else []
        plain = [byte for byte in allowed if 32 < byte < 127]
        written.append(chance.choice(closing or plain or [byte for byte in allowed if byte < BYTES]))
        matcher.consume_token(written[-1])
        if matcher.is_stopped():
            return written.decode("utf-8", "replace")
    return None
