"""The rules of grammars, as text: special tokens, literals, calls of tools."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from engine.chat.schema import LARGEST, ON_ONE_LINE, UnusableSchema, grammar_schema
from engine.chat.tools import Format
from engine.errors import InvalidRequest

MOST_CALLS = 16  # of one answer: a small model might never stop calling


def marks(format: Format) -> tuple[str, ...]:
    """The texts of a format that may be single tokens of the model; tags of reasoning begin with one."""
    tags = (tag for tag in format.shape.thinking if tag and not tag.startswith(format.preserved))
    return tuple(dict.fromkeys([*format.preserved, *tags]))


def literal(text: str, known: Sequence[str]) -> str:
    """A text as a rule's items: its marks, and what stands between them in quotes."""
    longest_first = sorted(known, key=len, reverse=True)
    pieces = re.split(f"({'|'.join(map(re.escape, longest_first))})", text) if known else [text]
    return " ".join(
        f"mark_{known.index(piece)}" if piece in known else json.dumps(piece, ensure_ascii=False)
        for piece in pieces
        if piece
    )


def until(text: str, known: Sequence[str]) -> str:
    """Any text up to and including this one, which begins with a mark."""
    mark = next(mark for mark in known if text.startswith(mark))
    return f"until_{known.index(mark)} {literal(text[len(mark) :], known)}"


def call_rules(
    tools: Sequence[Mapping[str, Any]], schemas: Mapping[str, Any], format: Format, only: str | None = None
) -> str:
    """The rule `calls` and those it needs: calls of these tools, or one call of `only` one, as the format writes them.

    `schemas` are parameters by name, which win over those in the definitions. Raises InvalidRequest.
    """
    shape, known = format.shape.calls, marks(format)
    assert shape is not None
    parameters = _parameters(tools, schemas, only)
    called = shape.known_as(name for tool in tools if (name := name_of(tool)))
    more = ""
    if shape.between is not None and only is None:
        more = f"({literal(shape.between, known)} call){{0,{MOST_CALLS - 1}}}"
    rules = [f"calls: {literal(shape.before, known)} call {more} {literal(shape.after, known)}"]
    rules.append(f"call: {' | '.join(f'call_{number}' for number in range(len(parameters)))}")
    for number, (name, schema) in enumerate(parameters.items()):
        head, closing = literal(shape.head(called[name]), known), literal(shape.closing, known)
        rules += [f"call_{number}: {head} arguments_{number} {closing}", f"arguments_{number}: %json {schema}"]
    return "\n".join(rules)


def name_of(tool: Mapping[str, Any]) -> str:
    """The name of the function that a tool is, "" if it has none."""
    return str((tool.get("function") or {}).get("name") or "")


def _parameters(tools: Sequence[Mapping[str, Any]], schemas: Mapping[str, Any], only: str | None) -> dict[str, str]:
    """The schemas of the arguments of those functions that may be called, as JSON texts."""
    wanted = {name: tool for tool in tools if (name := name_of(tool)) and only in (None, name)}
    if not wanted:
        raise InvalidRequest("the tools have no names")
    found = {
        name: _schema(name, schemas.get(name) or tool["function"].get("parameters")) for name, tool in wanted.items()
    }
    if sum(map(len, found.values())) > LARGEST:
        raise InvalidRequest(f"the parameters of the tools are too large: at most {LARGEST} characters are accepted")
    return found


def _schema(name: str, given: Any) -> str:
    """The schema of a tool's arguments, an object in any case."""
    said = {key: value for key, value in given.items() if value not in (None, "")} if isinstance(given, dict) else {}
    try:
        return grammar_schema({"type": "object", "properties": {}, **said}, ON_ONE_LINE)
    except UnusableSchema as error:
        raise InvalidRequest(f"the parameters of {name}: {error}") from None
