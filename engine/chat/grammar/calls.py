"""The rules of grammars, as text: special tokens, literals, calls of tools."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from engine.chat.grammar.arguments import Arguments
from engine.chat.grammar.builder import Lines, literal
from engine.chat.grammar.json_grammar import ON_ONE_LINE, json_rules
from engine.chat.output import Format
from engine.chat.output.format import CallShape
from engine.chat.schema.schema import LARGEST, UnusableSchema
from engine.errors import InvalidRequest

MOST_CALLS = 16  # of one answer: a small model might never stop calling


@dataclass(frozen=True, slots=True)
class CallRules:
    """The rule `calls` and those that it needs; `closings` and `examples` as in `Grammar`."""

    text: str
    closings: tuple[str, ...]
    examples: tuple[str, ...] = ()


def marks(format: Format) -> tuple[str, ...]:
    """The texts of a format that may be single tokens of the model; tags of reasoning begin with one."""
    tags = (tag for tag in format.shape.thinking if tag and not tag.startswith(format.preserved))
    return tuple(dict.fromkeys([*format.preserved, *tags]))


def until(text: str, known: Sequence[str]) -> str:
    """Any text up to and including this one, which begins with a mark."""
    mark = next(mark for mark in known if text.startswith(mark))
    return f"until_{known.index(mark)} {literal(text[len(mark) :], known)}"


def call_rules(
    tools: Sequence[Mapping[str, Any]], schemas: Mapping[str, Any], format: Format, only: str | None = None
) -> CallRules:
    """The rules for calls of these tools, or for one call of `only` one, as the format writes them.

    `schemas` are parameters by name, which win over those in the definitions. Raises InvalidRequest.
    """
    shape, lines = format.shape.calls, Lines(marks(format))
    assert shape is not None
    parameters = _parameters(tools, schemas, shape, only)
    called = shape.known_as(name for tool in tools if (name := name_of(tool)))
    more = ""
    if shape.between is not None and only is None:
        more = f"({lines.literal(shape.between)} call){{0,{MOST_CALLS - 1}}}"
    gap = "GAP? " if shape.trims else ""
    rules = [f"calls: {gap}{lines.literal(shape.before)} call {more} {lines.literal(shape.after)}"]
    rules.append(f"call: {' | '.join(f'call_{number}' for number in range(len(parameters)))}")
    for number, (name, schema) in enumerate(parameters.items()):
        head, closing = lines.literal(shape.head(called[name])), lines.literal(shape.closing)
        arguments = _arguments(name, schema, shape, lines, f"arguments_{number}")
        rules += [f"call_{number}: {head} arguments_{number} {closing}", arguments]
    for end in (shape.closing + shape.after, shape.after):  # behind those of texts, which might take them in
        lines.add_closing(end)
    return CallRules("\n".join([*rules, *lines.rules]), lines.closings, tuple(lines.examples))


def name_of(tool: Mapping[str, Any]) -> str:
    """The name of the function that a tool is, "" if it has none."""
    return str((tool.get("function") or {}).get("name") or "")


def _parameters(
    tools: Sequence[Mapping[str, Any]], schemas: Mapping[str, Any], shape: CallShape, only: str | None
) -> dict[str, dict[str, Any]]:
    """The schemas of the arguments of those functions that may be called, objects all of them."""
    wanted = {name: tool for tool in tools if (name := name_of(tool)) and only in (None, name)}
    if not wanted:
        raise InvalidRequest("the tools have no names")
    found = {name: _said(schemas.get(name) or tool["function"].get("parameters")) for name, tool in wanted.items()}
    for name in found:
        if not re.fullmatch(shape.names, name):
            raise InvalidRequest(f"tool_choice cannot be enforced: this model cannot write the name {name}")
    if sum(len(_written(name, schema)) for name, schema in found.items()) > LARGEST:
        raise InvalidRequest(f"the parameters of the tools are too large: at most {LARGEST} characters are accepted")
    return found


def _said(given: Any) -> dict[str, Any]:
    said = {key: value for key, value in given.items() if value not in (None, "")} if isinstance(given, dict) else {}
    return {"type": "object", "properties": {}, **said}


def _written(name: str, schema: dict[str, Any]) -> str:
    try:
        return json.dumps(schema, ensure_ascii=False)
    except RecursionError:
        raise InvalidRequest(f"the parameters of {name}: it is nested too deeply") from None


def _arguments(name: str, schema: dict[str, Any], shape: CallShape, lines: Lines, rule: str) -> str:
    """The rule for a tool's arguments, and those that it needs."""
    try:
        if shape.arguments is None:
            found = json_rules(schema, rule, ON_ONE_LINE, shape.reserved)
            lines.examples |= dict.fromkeys(found.examples)
            return found.text
        return f"{rule}: {Arguments(lines, shape.arguments, shape.reserved, schema).items()}"
    except RecursionError:
        raise InvalidRequest(f"the parameters of {name}: it is nested too deeply") from None
    except UnusableSchema as error:
        raise InvalidRequest(f"the parameters of {name}: {error}") from None
