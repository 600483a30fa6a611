"""What an answer must be: JSON, JSON to a schema, calls of tools; and the grammar that makes it so."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from engine.chat.schema import UnusableSchema, grammar_schema
from engine.chat.tools import Format, Turn
from engine.errors import InvalidRequest
from engine.messages import Grammar

_ANY_OBJECT: dict[str, Any] = {"type": "object"}


@dataclass(frozen=True, slots=True)
class Constraint:
    """Rules for the answer behind its reasoning, in a format. `what` names them to the user.

    `rules` define `answer`; `body` is what follows where the prompt has begun the answer already.
    """

    what: str
    rules: str
    body: str
    format: Format

    def grammar(self, turn: Turn) -> Grammar:
        """The grammar of the answer to a prompt.

        Reasoning comes first where the prompt has opened it, and may come first where it was asked for.
        """
        opening, closing = self.format.shape.thinking
        marks = _marks(self.format)
        if turn.continues or not opening:
            start = self.body if turn.continues else "answer"
        elif turn.opened(opening.rstrip()):
            start = f"{_until(closing, marks)} GAP? answer"
        elif turn.think:
            start = f"({_literal(opening, marks)} {_until(closing, marks)} GAP?)? answer"
        else:
            start = "answer"
        return Grammar(f"start: {start}\n{self.rules}", marks)


def content_constraint(wanted: str, format: Format) -> Constraint:
    """What the request's `format`, a JSON text, asks of the answer's content. Raises InvalidRequest."""
    rules = f"answer: {_literal(format.shape.content, _marks(format))} content\ncontent: %json {_schema(wanted)}"
    return Constraint("invalid format", rules, "content", format)


def _schema(wanted: str) -> str:
    try:
        value = _ANY_OBJECT if wanted == '"json"' else json.loads(wanted)
        if isinstance(value, Mapping):
            return grammar_schema(value)
    except UnusableSchema as error:
        raise InvalidRequest(f"invalid format: {error}") from None
    except RecursionError:
        raise InvalidRequest("invalid format: it is nested too deeply") from None
    quoted = json.dumps(wanted, ensure_ascii=False)
    raise InvalidRequest(f'invalid format: {quoted}; expected "json" or a valid JSON Schema object')


def _marks(format: Format) -> tuple[str, ...]:
    """The texts that may be single tokens of the model."""
    tags = (tag for tag in format.shape.thinking if tag and not tag.startswith(format.preserved))
    return tuple(dict.fromkeys([*format.preserved, *tags]))


def _literal(text: str, marks: Sequence[str]) -> str:
    """A text as a grammar's items: its marks, and what stands between them in quotes."""
    pieces = re.split(f"({'|'.join(map(re.escape, sorted(marks, key=len, reverse=True)))})", text) if marks else [text]
    return " ".join(
        f"mark_{marks.index(piece)}" if piece in marks else json.dumps(piece, ensure_ascii=False)
        for piece in pieces
        if piece
    )


def _until(text: str, marks: Sequence[str]) -> str:
    """Any text up to and including this one, which begins with a mark."""
    mark = next(mark for mark in marks if text.startswith(mark))
    return f"until_{marks.index(mark)} {_literal(text[len(mark) :], marks)}"
