"""Which grammar a request's answer gets."""

from __future__ import annotations

import json
from collections.abc import Sequence

import msgspec
import pytest

from engine.api import ChatRequest, Message, NamedTool, Tool, ToolChoice
from engine.chat.grammar.constraint import call_grammar, call_triggers, chat_constraint, content_constraint
from engine.chat.output import NAMED, Format, FormatSpec, ParseContext, native_format, template_format
from engine.chat.output.stream import ParserCoroutine, TextBuffer
from engine.errors import InvalidRequest
from engine.messages import Grammar, Triggers
from modelfile.conversation import Json, Property

ANYTHING = "{}"


def read(buffer: TextBuffer, context: ParseContext) -> ParserCoroutine[None]:
    yield None


PLAIN = Format(read)
TAGS = Format(read, preserved=("<call>",), spec=FormatSpec(("<think>", "</think>")))


def start(grammar: Grammar) -> str:
    """The first rule, its marks spelled out."""
    rule = grammar.rules.partition("\n")[0]
    for number, mark in reversed(list(enumerate(grammar.marks))):
        rule = rule.replace(f"mark_{number}", mark).replace(f"until_{number}", f"…{mark}")
    return " ".join(rule.split())


def test_content_without_reasoning() -> None:
    grammar = content_constraint(ANYTHING, PLAIN).grammar(ParseContext())
    assert start(grammar) == "start: answer"
    assert "answer:  content\ncontent: content_any\n" in grammar.rules
    assert grammar.marks == ()


@pytest.mark.parametrize(
    ("context", "rule"),
    [
        (ParseContext(think=True, prompt="Hi"), "start: (<think> …</think> GAP?)? answer"),
        (ParseContext(think=False, prompt="Hi"), "start: answer"),
        (ParseContext(think=True, prompt="Hi<think>\n"), "start: …</think> GAP? answer"),
        (ParseContext(think=False, prompt="Hi<think>\n"), "start: …</think> GAP? answer"),
        (ParseContext(think=False, prompt="Hi<think>\n\n</think>\n\n"), "start: answer"),
        (ParseContext(think=True, prompt="So", last=Message("assistant", "So")), "start: content"),
    ],
)
def test_reasoning_before_it(context: ParseContext, rule: str) -> None:
    assert start(content_constraint(ANYTHING, TAGS).grammar(context)) == rule


def test_harmony_has_a_header_for_everything() -> None:
    constraint = content_constraint(ANYTHING, NAMED["harmony"])
    grammar = constraint.grammar(ParseContext(prompt="<|start|>assistant"))
    marks = grammar.marks
    analysis = f'(mark_{marks.index("<|channel|>")} "analysis" mark_{marks.index("<|message|>")}'
    after = f'until_{marks.index("<|end|>")} mark_{marks.index("<|start|>")} "assistant" GAP?)? answer'
    assert grammar.rules.startswith(f"start: {analysis} {after}\n")
    final = f'mark_{marks.index("<|channel|>")} "final" mark_{marks.index("<|message|>")} content'
    assert f"answer: {final}\n" in grammar.rules
    assert start(constraint.grammar(ParseContext(last=Message("assistant", "So")))) == "start: content"


def test_json_is_any_object() -> None:
    assert content_constraint('"json"', PLAIN).rules == content_constraint('{"type": "object"}', PLAIN).rules


@pytest.mark.parametrize("output_format", ['"xml"', "7", "null", "[]", '"JSON"'])
def test_what_is_no_format(output_format: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        content_constraint(output_format, PLAIN)
    assert str(caught.value) == (
        f'invalid format: {json.dumps(output_format)}; expected "json" or a valid JSON Schema object'
    )


@pytest.mark.parametrize(
    ("output_format", "why"),
    [
        ('{"anyOf":[' * 500 + "{}" + "]}" * 500, "it is nested too deeply"),
        ('{"items":' * 5_000 + "{}" + "}" * 5_000, "it is nested too deeply"),
        (json.dumps({"enum": ["x" * 300_000]}), "it is too large: at most 262144 characters are accepted"),
    ],
)
def test_what_is_too_much(output_format: str, why: str) -> None:
    with pytest.raises(InvalidRequest, match=f"^invalid format: {why}$"):
        content_constraint(output_format, PLAIN)


def test_tags_of_a_chat_template() -> None:
    template = "{{ tools }}<tool_call></tool_call><think></think>"
    constraint = content_constraint(ANYTHING, native_format(template))
    assert start(constraint.grammar(ParseContext(prompt="Hi"))) == "start: (<think> …</think> GAP?)? answer"


def quoted(name: str) -> str:
    """A property's name as grammars have it."""
    return json.dumps(json.dumps(name))


SCHEMA = {"type": "object", "properties": {"a": {}}}
TOOLS = (Tool("first", sent=SCHEMA), Tool("second", sent=SCHEMA))
HERMES = NAMED["qwen3"]


def rules_of(
    choice: ToolChoice, reader: Format = HERMES, tools: Sequence[Tool] = TOOLS, format: str | None = None
) -> str:
    request = ChatRequest(model="", tools=tuple(tools), tool_choice=choice, format=format)
    constraint = chat_constraint(request, [] if choice == "none" else tools, reader)
    assert constraint is not None
    return constraint.rules


def test_nothing_is_asked_of_an_answer() -> None:
    for choice in ("auto", "none"):
        assert chat_constraint(ChatRequest(model="", tool_choice=choice), TOOLS, HERMES) is None


def test_required_allows_all_tools_and_several_calls() -> None:
    rules = rules_of("required")
    assert 'calls:  call ("\\n" call){0,15} \n' in rules
    assert "call: call_0 | call_1\n" in rules
    assert '\\"name\\": \\"first\\"' in rules
    assert '\\"name\\": \\"second\\"' in rules


def test_a_name_allows_one_call() -> None:
    rules = rules_of(NamedTool("second"))
    assert "calls:  call  \n" in rules
    assert "call: call_0\n" in rules
    assert "first" not in rules


def test_a_format_with_one_call_an_answer() -> None:
    assert "calls:  call  \n" in rules_of("required", NAMED["harmony"])


def test_parameters_as_they_were_sent_win() -> None:
    sent = {"properties": {"b": {"$ref": "#/$defs/x"}}, "$defs": {"x": {}}}
    first = Tool("first", properties={"a": Property()}, sent=sent)
    rules = rules_of("required", tools=(first, TOOLS[1]))
    one, other = (rules.partition(f"\narguments_{n}: ")[2].partition("\ncall_")[0] for n in (0, 1))
    assert quoted("b") in one
    assert quoted("a") not in one
    assert quoted("a") in other


@pytest.mark.parametrize("tool", [Tool("f"), Tool("f", sent={"type": "", "properties": None})])
def test_a_tool_without_parameters_gets_none(tool: Tool) -> None:
    assert rules_of("required", tools=[tool]) == rules_of("required", tools=[Tool("f", sent={"properties": {}})])


def test_the_name_of_a_function_is_escaped_where_it_is_json() -> None:
    rules = rules_of("required", tools=[Tool('say "x"')])
    assert json.dumps('\n{"name": "say \\"x\\"", "arguments": ') in rules


def test_content_to_a_format_or_a_call() -> None:
    rules = rules_of("auto", format=ANYTHING, tools=[Tool("first", sent={"type": "nosuch"}), TOOLS[1]])
    assert rules.startswith("answer: calls |  content\n")
    assert "nosuch" not in rules, "a call that is not required need not be to its schema"
    assert rules_of("none", format=ANYTHING).startswith("answer:  content\n")


def test_content_to_a_format_where_a_call_looks_like_content() -> None:
    assert rules_of("auto", template_format("{"), format=ANYTHING).startswith("answer:  content\n")


def test_a_required_call_leaves_no_content_to_have_a_format() -> None:
    assert rules_of("required", format='"xml"') == rules_of("required")


@pytest.mark.parametrize("answer_format", [HERMES, NAMED["qwen3-coder"]])
def test_arguments_are_an_object(answer_format: Format) -> None:
    for kind in ("string", "array", ["null", "integer"]):
        tools = [TOOLS[0], Tool("second", sent={"type": kind})]
        with pytest.raises(InvalidRequest, match=r'^the parameters of second: they must be of type "object"$'):
            rules_of("required", answer_format, tools)
    assert calls([Tool("first", sent=SCHEMA | {"type": ["object", "null"]})]) == calls(TOOLS[:1])


def test_tools_with_too_large_parameters() -> None:
    sent = {"properties": {"a": {"enum": ["x" * 200_000]}}}
    with pytest.raises(InvalidRequest, match=r"^the parameters of the tools are too large"):
        rules_of("required", tools=[Tool("first", sent=sent), Tool("second", sent=sent)])


def calls(tools: Sequence[Tool], answer_format: Format = HERMES, **asked: bool) -> str:
    """The rules for calls that the model makes by itself."""
    grammar = call_grammar(tools, answer_format, **{"once": False, **asked})
    assert grammar is not None
    return grammar.rules


def triggers(answer_format: Format = HERMES, context: ParseContext | None = None) -> Triggers:
    found = call_triggers(TOOLS, answer_format, context or ParseContext(), once=False)
    assert found is not None
    return found


def test_calls_that_the_model_makes_by_itself() -> None:
    assert (triggers().tags, triggers().starts) == (("<tool_call>",), ())
    assert "calls:  call  \n" in calls(TOOLS)
    listed = native_format("<TOOLCALL>[")
    assert '(", " call)*' in calls(TOOLS, listed)
    assert "call)*" not in calls(TOOLS, listed, once=True)
    bare = triggers(template_format("{"))
    assert bare.tags == ()
    assert bare.starts == tuple(f'{{"name": "{name}", "arguments": {{' for name in ("first", "second"))


BAD = (
    {"type": "nosuch"},
    {"type": ["string", "array"]},
    {"enum": ["x" * 300_000]},
    {"properties": {"a": {"type": "nosuch"}}},
)
FREE = {"additionalProperties": True}


@pytest.mark.parametrize("sent", BAD)
def test_a_schema_that_cannot_be_enforced_leaves_the_arguments_free(
    sent: Json, caplog: pytest.LogCaptureFixture
) -> None:
    assert calls([Tool("first", sent=sent), TOOLS[1]]) == calls([Tool("first", sent=FREE), TOOLS[1]])
    assert any("cannot be held to all schemas" in record.getMessage() for record in caplog.records)


def test_schemas_that_are_too_large_together_leave_all_arguments_free() -> None:
    sent = {"properties": {"a": {"enum": ["x" * 200_000]}}}
    large = [Tool("first", sent=sent), Tool("second", sent=sent)]
    assert calls(large) == calls([Tool("first"), Tool("second")], any_arguments=True)


def test_a_name_that_the_model_cannot_write_is_left_out() -> None:
    coder = NAMED["qwen3-coder"]
    assert calls([Tool("a\nb"), TOOLS[1]], coder) == calls([TOOLS[1]], coder)
    assert call_grammar([Tool("a\nb")], coder, once=False) is None


def test_nothing_to_hold_calls_to() -> None:
    assert call_grammar(TOOLS, PLAIN, once=False) is None
    assert call_grammar([Tool()], HERMES, once=False) is None
    assert call_triggers(TOOLS, PLAIN, ParseContext(), once=False) is None


def test_reasoning_triggers_nothing_where_it_is_read_as_such() -> None:
    asked = template_format("<tool_call>", ("<think>", "</think>"))
    assert triggers(asked, ParseContext(think=True)).thinking == ("<think>", "</think>")
    assert triggers(asked, ParseContext(think=False)).thinking == ("", "")
    assert triggers(asked, ParseContext(prompt="<think>\n")).begun
    assert not triggers(asked, ParseContext(prompt="Hi")).begun


def test_where_only_the_beginning_of_an_answer_is_a_call_a_continued_one_is_free() -> None:
    context = ParseContext(last=Message("assistant", "So"))
    assert call_triggers(TOOLS, template_format("{"), context, once=False) is None
    assert triggers(HERMES, context).tags


def test_one_call_at_most_for_those_who_want_no_more() -> None:
    request = ChatRequest(model="", tools=TOOLS, tool_choice="required", parallel_tool_calls=False)
    constraint = chat_constraint(request, TOOLS, HERMES)
    assert constraint is not None
    assert "calls:  call  \n" in constraint.rules


def test_the_part_that_is_checked_has_no_reasoning_and_no_lone_surrogates() -> None:
    pattern = {"type": "regex", "pattern": r"(\ud800xy|ab)"}
    grammar = content_constraint(json.dumps(pattern), TAGS).answer_grammar()
    assert start(grammar) == "start: answer"
    assert grammar.closings == ("ab",)
    msgspec.msgpack.encode(grammar)
