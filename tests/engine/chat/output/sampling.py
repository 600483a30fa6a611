"""Answers at random, each of them allowed by a grammar, and tools with schemas at random."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from random import Random
from typing import Any

import numpy as np
from hypothesis import strategies as st

from engine.messages import Grammar
from engine.runner.grammar import Grammars
from engine.runner.grammar_check import BYTES, ByteVocabulary

NAMES = ("city", "days", "is_new", "x1", "zone-2")
DEFINITIONS = {
    "Point": {
        "type": "object",
        "properties": {"lat": {"type": "number"}, "name": {"type": "string"}},
        "required": ["lat"],
    },
    "Unit": {"enum": ["celsius", "kelvin"]},
}
_LIKELY = b' \n"\\<>/|{}[]=:,abn0159-.eE'


class MarkedVocabulary(ByteVocabulary):
    """Bytes, and a control token for each mark; `size` is that of this one."""

    def __init__(self, marks: Sequence[str]) -> None:
        self._marks = marks
        self.size = BYTES + 1 + len(marks)

    def render(self, token: int, *, special: bool = False) -> bytes:
        """The bytes of a token."""
        if token <= BYTES:
            return super().render(token, special=special)
        return self._marks[token - BYTES - 1].encode() if special else b""

    def preserved(self, texts: Sequence[str]) -> dict[int, bytes]:
        """The tokens that are marks."""
        return {self._marks.index(text) + BYTES + 1: text.encode() for text in texts}

    def tokenize(self, text: str, *, add_special: bool, parse_special: bool = True) -> array[int]:
        """Marks, unless `parse_special` is off, and bytes for all else."""
        tokens, at = array("i"), 0
        while at < len(text):
            mark = next((mark for mark in self._marks if parse_special and text.startswith(mark, at)), "")
            tokens.extend(self.preserved([mark]) if mark else text[at].encode())
            at += len(mark) or 1
        return tokens


def sample(grammar: Grammar, random: Random, temptations: Sequence[str], *, spelled: bool, most: int = 200) -> str:
    """One text of the grammar. Where it may be, what tempts is in it; `spelled`: marks are no tokens."""
    vocabulary = ByteVocabulary() if spelled else MarkedVocabulary(grammar.marks)
    matcher = Grammars(vocabulary).matcher(grammar)
    matcher.set_budget(most)
    text, tempting = b"", array("i")
    while not matcher.finished:
        row = np.zeros(vocabulary.size, np.float32)
        matcher.restrict(row)
        allowed = set(np.flatnonzero(row == 0).tolist())
        assert not matcher.fault, matcher.fault
        if BYTES in allowed:
            break
        if not tempting and temptations and random.random() < 0.1:
            tempting = vocabulary.tokenize(random.choice(temptations), add_special=False)
        choice = tempting[0] if tempting and tempting[0] in allowed else _any(allowed, random)
        tempting = tempting[1:] if tempting and tempting[0] == choice else array("i")
        text += vocabulary.render(matcher.accept(choice), special=True)
    return text.decode()


def _any(allowed: set[int], random: Random) -> int:
    likely = [token for token in sorted(allowed) if token > BYTES or token in _LIKELY]
    return random.choice(likely if likely and random.random() < 0.9 else sorted(allowed))


def _object(properties: dict[str, Any], required: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": sorted(set(required) & set(properties))}


_TEXTS = st.one_of(
    st.just({"type": "string"}),
    st.just({"type": "string", "description": "free"}),
    st.builds(
        lambda low, more: {"type": "string", "minLength": low, "maxLength": low + more}, *2 * [st.integers(0, 4)]
    ),
    st.sampled_from([{"type": "string", "pattern": "^[A-Z]{2}-[0-9]+$"}, {"enum": ["1", "null", "two words", "<b>"]}]),
    st.just({"type": "string", "const": "only"}),
)
_OTHERS = st.sampled_from(
    [
        {"type": "integer"},
        {"type": "integer", "minimum": 3, "maximum": 70},
        {"type": "number"},
        {"type": "number", "minimum": -1e6, "maximum": 1e6},
        {"type": "boolean"},
        {"type": ["string", "null"]},
        {"type": ["integer", "null"]},
        {"enum": [1, 2.5, "x", True, None]},
        {"anyOf": [{"type": "array", "items": {"type": "integer"}}, {"type": "string", "maxLength": 3}]},
        {"oneOf": [{"$ref": "#/$defs/Unit"}, {"type": "null"}]},
        {"$ref": "#/$defs/Point"},
        {"allOf": [{"$ref": "#/$defs/Point"}], "description": "where"},
        {"type": "object"},
        {"type": "object", "additionalProperties": {"type": "integer"}},
        {"type": "array"},
        {"type": "array", "prefixItems": [{"type": "integer"}, {"type": "string"}], "minItems": 2, "maxItems": 2},
        {"description": "anything"},
    ]
)
_VALUES = st.recursive(
    _TEXTS | _OTHERS,
    lambda inner: (
        st.builds(_object, st.dictionaries(st.sampled_from(NAMES), inner, max_size=3), st.sets(st.sampled_from(NAMES)))
        | st.builds(
            lambda items, low, more: {"type": "array", "items": items, "minItems": low, "maxItems": low + more},
            inner,
            *2 * [st.integers(0, 2)],
        )
    ),
    max_leaves=4,
)
PARAMETERS = st.builds(
    lambda properties, required: {**_object(properties, required), "$defs": DEFINITIONS},
    st.dictionaries(st.sampled_from(NAMES), _VALUES, max_size=4),
    st.sets(st.sampled_from(NAMES)),
)
