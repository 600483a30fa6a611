"""The rules of grammars, as text: special tokens, literals, calls of tools."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from engine.chat.grammar.arguments import Arguments
from engine.chat.grammar.builder import GrammarBuilder, literal
from engine.chat.grammar.json_grammar import ON_ONE_LINE, json_rules
from engine.chat.output import Format
from engine.chat.output.format import ToolCallSpec
from engine.chat.schema.schema import LARGEST, UnusableSchema
from engine.errors import InvalidRequest
from modelfile.conversation import Json, Tool

MOST_CALLS = 16  # of one answer: a small model might never stop calling


@dataclass(frozen=True, slots=True)
class CallRules:
    """The rule `calls` and those that it needs; `closings` and `examples` as in `Grammar`."""

    text: str
    closings: tuple[str, ...]
    examples: tuple[str, ...] = ()


def marks(format: Format) -> tuple[str, ...]:
    """The texts of a format that may be single tokens of the model; tags of reasoning begin with one."""
    tags = (tag for tag in format.spec.thinking if tag and not tag.startswith(format.preserved))
    return tuple(dict.fromkeys([*format.preserved, *tags]))


def until(text: str, known: Sequence[str]) -> str:
    """Any text up to and including this one, which begins with a mark."""
    mark = next(mark for mark in known if text.startswith(mark))
    return f"until_{known.index(mark)} {literal(text[len(mark) :], known)}"


def call_rules(tools: Sequence[Tool], format: Format, only: str | None = None) -> CallRules:
    """The rules for calls of these tools, or for one call of `only` one, as the format writes them.

    Raises InvalidRequest.
    """
    spec, lines = format.spec.calls, GrammarBuilder(marks(format))
    assert spec is not None
    parameters = _parameters(tools, spec, only)
    called = spec.aliases(tool.name for tool in tools if tool.name)
    more = ""
    if spec.between is not None and only is None:
        more = f"({lines.literal(spec.between)} call){{0,{MOST_CALLS - 1}}}"
    gap = "GAP? " if spec.strips_leading_space else ""
    rules = [f"calls: {gap}{lines.literal(spec.before)} call {more} {lines.literal(spec.after)}"]
    rules.append(f"call: {' | '.join(f'call_{number}' for number in range(len(parameters)))}")
    for number, (name, schema) in enumerate(parameters.items()):
        head, closing = lines.literal(spec.head(called[name])), lines.literal(spec.closing)
        arguments = _arguments(name, schema, spec, lines, f"arguments_{number}")
        rules += [f"call_{number}: {head} arguments_{number} {closing}", arguments]
    for end in (spec.closing + spec.after, spec.after):  # behind those of texts, which might take them in
        lines.add_closing(end)
    return CallRules("\n".join([*rules, *lines.rules]), lines.closings, tuple(lines.examples))


def _parameters(tools: Sequence[Tool], spec: ToolCallSpec, only: str | None) -> dict[str, dict[str, Any]]:
    """The schemas of the arguments of those functions that may be called, objects all of them."""
    found = {tool.name: _object(tool.sent) for tool in tools if tool.name and only in (None, tool.name)}
    if not found:
        raise InvalidRequest("the tools have no names")
    for name in found:
        if not re.fullmatch(spec.names, name):
            raise InvalidRequest(f"tool_choice cannot be enforced: this model cannot write the name {name}")
    if sum(len(_written(name, schema)) for name, schema in found.items()) > LARGEST:
        raise InvalidRequest(f"the parameters of the tools are too large: at most {LARGEST} characters are accepted")
    return found


def _object(schema: Json) -> dict[str, Any]:
    return {"type": "object", "properties": {}, **{k: value for k, value in schema.items() if value not in (None, "")}}


def _written(name: str, schema: dict[str, Any]) -> str:
    try:
        return json.dumps(schema, ensure_ascii=False)
    except RecursionError:
        raise InvalidRequest(f"the parameters of {name}: it is nested too deeply") from None


def _arguments(name: str, schema: dict[str, Any], spec: ToolCallSpec, lines: GrammarBuilder, rule: str) -> str:
    """The rule for a tool's arguments, and those that it needs."""
    try:
        if spec.arguments is None:
            found = json_rules(schema, rule, ON_ONE_LINE, spec.reserved)
            lines.examples |= dict.fromkeys(found.examples)
            return found.text
        return f"{rule}: {Arguments(lines, spec.arguments, spec.reserved, schema).items()}"
    except RecursionError:
        raise InvalidRequest(f"the parameters of {name}: it is nested too deeply") from None
    except UnusableSchema as error:
        raise InvalidRequest(f"the parameters of {name}: {error}") from None
