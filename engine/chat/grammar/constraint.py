"""What an answer must be: JSON, JSON to a schema, calls of tools; and the grammar that makes it so."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from engine.api import ChatRequest, NamedTool, Tool
from engine.chat.grammar.builder import literal
from engine.chat.grammar.calls import call_rules, marks, until
from engine.chat.grammar.json_grammar import JsonRules, json_rules
from engine.chat.output import Format, ParseContext
from engine.chat.output.format import ReasoningMode
from engine.chat.schema.schema import UnusableSchema
from engine.errors import InvalidRequest
from engine.messages import Grammar

_ANY_OBJECT: dict[str, Any] = {"type": "object"}


@dataclass(frozen=True, slots=True)
class Constraint:
    """Rules for the answer behind its reasoning, in a format. `what` names them to the user.

    `rules` define `answer`; `body` is what follows where the prompt has begun the answer already. `closings` and
    `examples` as in `Grammar`.
    """

    what: str
    rules: str
    body: str
    format: Format
    closings: tuple[str, ...] = ()
    examples: tuple[str, ...] = ()

    def grammar(self, turn: ParseContext) -> Grammar:
        """The grammar of the answer to a prompt, reasoning included where it has its place."""
        opening, closing = self.format.spec.thinking
        known = marks(self.format)
        reasoning_mode = self.format.spec.reasoning_mode(turn)
        match reasoning_mode:
            case ReasoningMode.BEGUN:
                start = f"{until(closing, known)} GAP? answer"
            case ReasoningMode.ALLOWED:
                start = f"({literal(opening, known)} {until(closing, known)} GAP?)? answer"
            case ReasoningMode.NONE:
                start = self.body if turn.continues else "answer"
        closings = self.closings if reasoning_mode is ReasoningMode.NONE else (closing, *self.closings)
        return Grammar(f"start: {start}\n{self.rules}", known, closings, self.examples)


def chat_constraint(request: ChatRequest, tools: Sequence[Tool], format: Format) -> Constraint | None:
    """What a turn's `tool_choice` and `format` ask for; `tools` are those that the model may call.

    A call that is demanded makes an answer without content. One that is not is held to its form only, and may come
    instead of what `format` demands. Raises InvalidRequest.
    """
    if request.tool_choice not in ("auto", "none"):
        return _forced(request, tools, format)
    if request.format is None:
        return None
    content = content_constraint(request.format, format)
    calls = format.spec.calls
    if not tools or calls is None or (calls.before + calls.opening).startswith(("{", "[")):
        return content  # content in JSON could not be told from a call that is nothing else
    rules = content.rules.replace("answer:", "answer: calls |", 1)
    called = call_rules([replace(tool, sent={"additionalProperties": True}) for tool in tools], format)
    return replace(
        content, rules=f"{rules}\n{called.text}", closings=called.closings, examples=content.examples + called.examples
    )


def content_constraint(wanted: str, format: Format) -> Constraint:
    """What the request's `format`, a JSON text, asks of the answer's content. Raises InvalidRequest."""
    found = _content(wanted)
    rules = f"answer: {literal(format.spec.content, marks(format))} content\n{found.text}"
    return Constraint("invalid format", rules, "content", format, examples=found.examples)


def _forced(request: ChatRequest, tools: Sequence[Tool], format: Format) -> Constraint:
    choice = request.tool_choice
    if format.spec.calls is None:
        raise InvalidRequest("tool_choice cannot be enforced: this model has no way to call tools")
    only = choice.name if isinstance(choice, NamedTool) else None
    if only is not None and only not in [tool.name for tool in tools]:
        raise InvalidRequest(f'tool_choice names "{only}", which is not among the tools')
    if not tools:
        raise InvalidRequest(f'tool_choice "{choice}" needs tools')
    called = call_rules(tools, format, only)
    rules = f"answer: calls\n{called.text}"
    return Constraint("tool_choice cannot be enforced", rules, "calls", format, called.closings, called.examples)


def _content(wanted: str) -> JsonRules:
    """The rule `content` and those that it needs."""
    try:
        value = _ANY_OBJECT if wanted == '"json"' else json.loads(wanted)
        if isinstance(value, Mapping):
            return json_rules(value, "content")
    except UnusableSchema as error:
        raise InvalidRequest(f"invalid format: {error}") from None
    except RecursionError:
        raise InvalidRequest("invalid format: it is nested too deeply") from None
    quoted = json.dumps(wanted, ensure_ascii=False)
    raise InvalidRequest(f'invalid format: {quoted}; expected "json" or a valid JSON Schema object')
