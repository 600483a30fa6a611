"""The rules of grammars, as text: special tokens, literals, calls of tools."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from engine.chat.schema import LARGEST, ON_ONE_LINE, UnusableSchema, grammar_schema
from engine.chat.tools import Format
from engine.errors import InvalidRequest


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


def call_rules(tools: Sequence[Mapping[str, Any]], schemas: Mapping[str, Any], format: Format, most: int) -> str:
    """The rule `calls` and those it needs: one to `most` calls of these tools, as the format writes them.

    `schemas` are parameters by name, which win over those in the definitions. Raises InvalidRequest.
    """
    shape, known = format.shape.calls, marks(format)
    assert shape is not None
    parameters = {name: _parameters(tool, schemas) for tool in tools if (name := function_of(tool).get("name"))}
    if not parameters:
        raise InvalidRequest("the tools have no names")
    if sum(map(len, parameters.values())) > LARGEST:
        raise InvalidRequest(f"the parameters of the tools are too large: at most {LARGEST} characters are accepted")
    single = shape.between is None or most == 1
    more = "" if single else f"({literal(shape.between or '', known)} call){{0,{most - 1}}}"
    rules = [f"calls: {literal(shape.before, known)} call {more} {literal(shape.after, known)}"]
    rules.append(f"call: {' | '.join(f'call_{number}' for number in range(len(parameters)))}")
    called = shape.known_as(parameters)
    for number, (name, schema) in enumerate(parameters.items()):
        head, closing = literal(shape.head(called[name]), known), literal(shape.closing, known)
        rules += [f"call_{number}: {head} arguments_{number} {closing}", f"arguments_{number}: %json {schema}"]
    return "\n".join(rules)


def function_of(tool: Mapping[str, Any]) -> Mapping[str, Any]:
    """The function that a tool is."""
    return tool.get("function") or {}


def _parameters(tool: Mapping[str, Any], schemas: Mapping[str, Any]) -> str:
    """The schema of a tool's arguments, an object in any case, as JSON text."""
    name = function_of(tool)["name"]
    given = schemas.get(name) or function_of(tool).get("parameters")
    said = {key: value for key, value in given.items() if value not in (None, "")} if isinstance(given, dict) else {}
    schema = {"type": "object", "properties": {}, **said}
    try:
        return grammar_schema(schema, ON_ONE_LINE)
    except UnusableSchema as error:
        raise InvalidRequest(f"the parameters of {name}: {error}") from None
