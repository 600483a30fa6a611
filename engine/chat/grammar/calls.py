"""Grammar rules for tool calls, as a format writes them."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from engine.chat.grammar.arguments import Arguments
from engine.chat.grammar.builder import GrammarBuilder, literal
from engine.chat.grammar.json_grammar import ON_ONE_LINE, json_rules
from engine.chat.output import Format
from engine.chat.output.format import ToolCallSpec
from engine.chat.schema.reader import LARGEST, UnusableSchema, named_kinds
from engine.errors import InvalidRequest
from modelfile.conversation import Json, Tool

MOST_CALLS = 16  # of an answer that must be calls: a small model might never stop calling
log = logging.getLogger("pronk.engine")


@dataclass(frozen=True, slots=True)
class CallRules:
    """The rule `calls` and the rules that it needs, in Lark; `closings` and `examples` as in `Grammar`."""

    text: str
    closings: tuple[str, ...]
    examples: tuple[str, ...] = ()


def special_tokens(answer_format: Format) -> tuple[str, ...]:
    """The texts of a format that may be single tokens of the model; each tag of reasoning begins with one of them."""
    tags = (tag for tag in answer_format.spec.thinking if tag and not tag.startswith(answer_format.preserved))
    return tuple(dict.fromkeys([*answer_format.preserved, *tags]))


def text_until(text: str, tokens: Sequence[str]) -> str:
    """The items for any text up to and including `text`, which begins with one of the special tokens."""
    token = next(token for token in tokens if text.startswith(token))
    return f"until_{tokens.index(token)} {literal(text[len(token) :], tokens)}"


def call_rules(
    tools: Sequence[Tool], answer_format: Format, only: str | None = None, *, single: bool = False
) -> CallRules:
    """The rules for calls of these tools as the format writes them, or for one call of the tool `only`.

    `single`: for one call of any. Raises InvalidRequest.
    """
    spec = answer_format.spec.calls
    assert spec is not None
    count = "{0,0}" if single or only is not None else f"{{0,{MOST_CALLS - 1}}}"
    return _call_rules(tools, answer_format, only, count, "GAP? " if spec.strips_leading_space else "")


def triggered_rules(tools: Sequence[Tool], answer_format: Format, *, single: bool) -> CallRules | None:
    """The rules for the calls that a model begins by itself; None if there is nothing to hold them to.

    They are for one call, or for all between the tags that stand around them. Where a schema cannot be enforced, the
    arguments are any object; a function whose name the model cannot write is left out.
    """
    spec = answer_format.spec.calls
    assert spec is not None
    count = "*" if (spec.before or spec.after) and not single else "{0,0}"
    for offered in _attempts(tools, answer_format):
        try:
            return _call_rules(offered, answer_format, None, count, "") if offered else None
        except InvalidRequest as error:
            log.warning("tool calls cannot be held to all schemas: %s", error)
    return None


def without_schema(tool: Tool) -> Tool:
    """The same function with any arguments."""
    return replace(tool, sent={"additionalProperties": True})


def _attempts(tools: Sequence[Tool], answer_format: Format) -> Iterator[Sequence[Tool]]:
    """The tools; those that can be enforced as they are, the others with any arguments; all with any arguments."""
    yield tools
    writable = [tool for tool in tools if _is_enforceable(without_schema(tool), answer_format)]
    yield [tool if _is_enforceable(tool, answer_format) else without_schema(tool) for tool in writable]
    yield [without_schema(tool) for tool in writable]


def _is_enforceable(tool: Tool, answer_format: Format) -> bool:
    try:
        call_rules([tool], answer_format)
    except InvalidRequest:
        return False
    return True


def _call_rules(tools: Sequence[Tool], answer_format: Format, only: str | None, count: str, gap: str) -> CallRules:
    """The rules for calls, `count` times another one behind the first, with `gap` before all of them."""
    spec, builder = answer_format.spec.calls, GrammarBuilder(special_tokens(answer_format))
    assert spec is not None
    parameters = _parameters(tools, spec, only)
    called = spec.aliases(tool.name for tool in tools if tool.name)
    more = "" if spec.separator is None or count == "{0,0}" else f"({builder.literal(spec.separator)} call){count}"
    rules = [f"calls: {gap}{builder.literal(spec.before)} call {more} {builder.literal(spec.after)}"]
    rules.append(f"call: {' | '.join(f'call_{number}' for number in range(len(parameters)))}")
    for number, (name, schema) in enumerate(parameters.items()):
        prefix, closing = builder.literal(spec.prefix(called[name])), builder.literal(spec.closing)
        arguments = _arguments(name, schema, spec, builder, f"arguments_{number}")
        rules += [f"call_{number}: {prefix} arguments_{number} {closing}", arguments]
    for end in (spec.closing + spec.after, spec.after):  # behind those of texts, which might take them in
        builder.add_closing(end)
    return CallRules("\n".join([*rules, *builder.rules]), builder.closings, tuple(builder.examples))


def _parameters(tools: Sequence[Tool], spec: ToolCallSpec, only: str | None) -> dict[str, dict[str, Any]]:
    """The schemas of the arguments of the functions that may be called, each an object. Raises InvalidRequest."""
    schemas = {tool.name: _object(tool.name, tool.sent) for tool in tools if tool.name and only in (None, tool.name)}
    if not schemas:
        raise InvalidRequest("the tools have no names", "tools")
    for name in schemas:
        if not re.fullmatch(spec.names, name):
            raise InvalidRequest(
                f"tool_choice cannot be enforced: this model cannot write the name {name}", "tool_choice"
            )
    if sum(len(_written(name, schema)) for name, schema in schemas.items()) > LARGEST:
        raise InvalidRequest(
            f"the parameters of the tools are too large: at most {LARGEST} characters are accepted", "tools"
        )
    return schemas


def _object(name: str, schema: Json) -> dict[str, Any]:
    """The objects that a tool's schema allows, as a schema. Raises InvalidRequest if its type allows none."""
    try:
        allowed, _ = named_kinds(schema)
    except UnusableSchema as error:
        raise InvalidRequest(f"the parameters of {name}: {error}", "tools") from None
    if allowed is not None and "object" not in allowed:
        raise InvalidRequest(f'the parameters of {name}: they must be of type "object"', "tools")
    return {"properties": {}, **{k: value for k, value in schema.items() if value not in (None, "")}, "type": "object"}


def _written(name: str, schema: dict[str, Any]) -> str:
    try:
        return json.dumps(schema, ensure_ascii=False)
    except RecursionError:
        raise InvalidRequest(f"the parameters of {name}: it is nested too deeply", "tools") from None


def _arguments(name: str, schema: dict[str, Any], spec: ToolCallSpec, builder: GrammarBuilder, rule: str) -> str:
    """The rule `rule` for a tool's arguments, and the rules that it needs. Raises InvalidRequest."""
    try:
        if spec.arguments is None:
            rules = json_rules(schema, rule, ON_ONE_LINE, spec.reserved)
            builder.examples |= dict.fromkeys(rules.examples)
            return rules.text
        return f"{rule}: {Arguments(builder, spec.arguments, spec.reserved, schema).items()}"
    except RecursionError:
        raise InvalidRequest(f"the parameters of {name}: it is nested too deeply", "tools") from None
    except UnusableSchema as error:
        raise InvalidRequest(f"the parameters of {name}: {error}", "tools") from None
