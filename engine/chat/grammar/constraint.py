"""What a request requires of its answer (its `format`, tool calls), and the grammar that enforces it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from engine.api import ChatRequest, NamedTool, Tool
from engine.chat.grammar.builder import literal
from engine.chat.grammar.calls import call_rules, special_tokens, text_until, triggered_rules, without_schema
from engine.chat.grammar.content import CONTENT, content_rules, is_unicode
from engine.chat.output import Format, ParseContext
from engine.chat.output.format import ReasoningMode
from engine.errors import InvalidRequest
from engine.messages import Grammar, Triggers


@dataclass(frozen=True, slots=True)
class Constraint:
    """Grammar rules for the part of an answer behind its reasoning. `what` begins errors about them, `field`
    is the field of the request that asks for them.

    `rules` define `answer`; `body` is the rule that follows if the prompt has begun the answer already. The other
    fields are as in `Grammar`.
    """

    what: str
    field: str
    rules: str
    body: str
    answer_format: Format
    closings: tuple[str, ...] = ()
    examples: tuple[str, ...] = ()
    user_grammar: str = ""
    is_json: bool = True

    def answer_grammar(self) -> Grammar:
        """The grammar of the part behind the reasoning, which is free in any case."""
        return self._starting("answer", self.closings)

    def grammar(self, context: ParseContext) -> Grammar:
        """The grammar of the whole answer to one request, reasoning included."""
        opening, closing = self.answer_format.spec.thinking
        tokens = special_tokens(self.answer_format)
        reasoning_mode = self.answer_format.spec.reasoning_mode(context)
        match reasoning_mode:
            case ReasoningMode.BEGUN:
                start = f"{text_until(closing, tokens)} GAP? answer"
            case ReasoningMode.ALLOWED:
                start = f"({literal(opening, tokens)} {text_until(closing, tokens)} GAP?)? answer"
            case ReasoningMode.NONE:
                start = self.body if context.continues else "answer"
        closings = self.closings if reasoning_mode is ReasoningMode.NONE else (closing, *self.closings)
        return self._starting(start, closings)

    def _starting(self, start: str, closings: tuple[str, ...]) -> Grammar:
        marks = special_tokens(self.answer_format)
        rules = f"start: {start}\n{self.rules}"
        return Grammar(rules, marks, _writable(closings), _writable(self.examples), self.user_grammar, self.is_json)


def _writable(texts: Sequence[str]) -> tuple[str, ...]:
    """The texts that an answer can have: those without lone surrogates."""
    return tuple(text for text in texts if is_unicode(text))


def call_triggers(
    tools: Sequence[Tool], answer_format: Format, context: ParseContext, *, once: bool
) -> Triggers | None:
    """Where the calls begin that a model makes by itself; None if it can make none.

    `once`: the answer ends behind the first one.
    """
    spec, calls = answer_format.spec, answer_format.spec.calls
    if calls is None or not tools or (calls.leads and context.continues):
        return None
    beginnings = tuple(map(calls.begins, calls.aliases(tool.name for tool in tools if tool.name).values()))
    tags = (calls.tag,) if calls.tag else () if calls.leads else beginnings
    thinking = ("", "") if spec.only_if_asked and not context.think else spec.thinking
    begun = spec.reasoning_mode(context) is ReasoningMode.BEGUN
    return Triggers(tags, beginnings if calls.leads else (), thinking, begun, once)


def call_grammar(
    tools: Sequence[Tool], answer_format: Format, *, once: bool, any_arguments: bool = False
) -> Grammar | None:
    """The grammar of the calls that a model makes by itself, from a trigger on: names and arguments as the tools say.

    `any_arguments`: only the names. None if there is nothing to hold them to.
    """
    if answer_format.spec.calls is None:
        return None
    tools = [without_schema(tool) if any_arguments else tool for tool in tools if tool.name]
    called = triggered_rules(tools, answer_format, single=once)
    if called is None:
        return None
    return Grammar(f"start: calls\n{called.text}", special_tokens(answer_format), whole=False)


def chat_constraint(request: ChatRequest, tools: Sequence[Tool], answer_format: Format) -> Constraint | None:
    """What a request's `tool_choice` and `format` ask for; `tools` are those that the model may call.

    A call that is asked for is the whole answer. Where `format` is set, the answer may be calls instead, with any
    arguments. Raises InvalidRequest.
    """
    if request.tool_choice not in ("auto", "none"):
        return _forced(request, tools, answer_format)
    if request.format is None:
        return None
    content = content_constraint(request.format, answer_format)
    calls = answer_format.spec.calls
    if not tools or calls is None or (calls.before + calls.opening).startswith(("{", "[")):
        return content  # content in JSON could not be told from a call that is nothing else
    rules = content.rules.replace("answer:", "answer: calls |", 1)
    called = call_rules(list(map(without_schema, tools)), answer_format, single=not request.parallel_tool_calls)
    return replace(
        content,
        rules=f"{rules}\n{called.text}",
        closings=content.closings + called.closings,
        examples=content.examples + called.examples,
    )


def content_constraint(output_format: str, answer_format: Format) -> Constraint:
    """What `output_format`, a request's `format` as JSON, asks of the answer's content. Raises InvalidRequest."""
    rules = content_rules(output_format)
    return Constraint(
        what="invalid format",
        field="format",
        rules=f"answer: {literal(answer_format.spec.content, special_tokens(answer_format))} {CONTENT}\n{rules.text}",
        body=CONTENT,
        answer_format=answer_format,
        closings=rules.closings,
        examples=rules.examples,
        user_grammar=rules.user_grammar,
        is_json=rules.is_json,
    )


def _forced(request: ChatRequest, tools: Sequence[Tool], answer_format: Format) -> Constraint:
    choice = request.tool_choice
    if answer_format.spec.calls is None:
        raise InvalidRequest("tool_choice cannot be enforced: this model has no way to call tools", "tool_choice")
    only = choice.name if isinstance(choice, NamedTool) else None
    if only is not None and only not in [tool.name for tool in tools]:
        raise InvalidRequest(f'tool_choice names "{only}", which is not among the tools', "tool_choice")
    if not tools:
        raise InvalidRequest("tool_choice demands a call, but there are no tools", "tool_choice")
    called = call_rules(tools, answer_format, only, single=not request.parallel_tool_calls)
    rules = f"answer: calls\n{called.text}"
    return Constraint(
        what="tool_choice cannot be enforced",
        field="tool_choice",
        rules=rules,
        body="calls",
        answer_format=answer_format,
        closings=called.closings,
        examples=called.examples,
    )
