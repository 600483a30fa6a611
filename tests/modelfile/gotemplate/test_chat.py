"""Conversations through templates: which values they see, and the old way turn by turn."""

from __future__ import annotations

import pytest

from modelfile.conversation import Message, Tool
from modelfile.gotemplate import ChatTemplate, Conversation, TemplateExecError, TemplateSyntaxError
from modelfile.gotemplate.chat import Think
from modelfile.gotemplate.errors import TemplateLimitError
from modelfile.gotemplate.limits import Limits

TURNS = (Message("system", "s"), Message("user", "u1"), Message("assistant", "a1"), Message("user", "u2"))
OLD = "{{ if .System }}<S>{{ .System }}{{ end }}{{ if .Prompt }}<U>{{ .Prompt }}{{ end }}<A>{{ .Response }}<E>"


def rendered(template: str, *messages: Message, think: Think = None) -> str:
    return ChatTemplate.parse(template).render(Conversation(messages=messages, think=think))


def test_turn_by_turn() -> None:
    assert rendered(OLD, *TURNS) == "<S>s<U>u1<A>a1<E><U>u2<A>"
    assert rendered(OLD, *TURNS[:3]) == "<S>s<U>u1<A>a1"
    assert rendered(OLD) == "<A>"
    assert rendered("{{ .Prompt }}", *TURNS) == "u1a1u2"


def test_old_templates_may_call_functions() -> None:
    assert rendered('{{ define "x" }}[{{ json . }}]{{ end }}{{ template "x" .Prompt }}', *TURNS) == '["u1"]a1["u2"]'


def test_the_guard_of_a_response_with_an_else() -> None:
    guarded = "{{ .Prompt }}{{ if .Response }}>{{ .Response }}{{ else }}none{{ end }}"
    assert rendered(guarded, *TURNS) == "u1>a1u2"
    assert rendered(guarded, *TURNS[:3]) == "u1>a1"


def test_a_hole() -> None:
    template = ChatTemplate.parse("{{ if .Suffix }}<P>{{ .Prompt }}<S>{{ .Suffix }}<M>{{ else }}{{ .Prompt }}{{ end }}")
    assert template.render(Conversation(prompt="a(", suffix=")b")) == "<P>a(<S>)b<M>"
    assert template.render(Conversation(prompt="a(", messages=[Message("user", "x")])) == "x"
    assert "suffix" in template.variables


def test_a_hole_has_no_messages() -> None:
    template = ChatTemplate.parse("{{ .Messages }}{{ .Suffix }}{{ .System }}")
    assert template.render(Conversation(prompt="a", suffix="b", messages=TURNS)) == "<no value>b<no value>"


@pytest.mark.parametrize(
    ("think", "shown"),
    [(None, "false||false"), (True, "true|medium|true"), (False, "false||true"), ("high", "true|high|true")],
)
def test_thinking(think: Think, shown: str) -> None:
    assert rendered("{{ .Think }}|{{ .ThinkLevel }}|{{ .IsThinkSet }}{{ .Messages }}", think=think) == f"{shown}[]"


def test_tools_that_cannot_be_and_tools_that_are_none() -> None:
    template = ChatTemplate.parse("{{ .Messages }}{{ .Tools }}{{ if .Tools }}yes{{ end }}")
    assert template.render(Conversation()) == "[]null"
    assert template.render(Conversation(tools=[])) == "[][]"
    assert template.render(Conversation(tools=[Tool("f")])).endswith("yes")


def test_a_response_is_appended_where_there_is_none() -> None:
    assert ChatTemplate.parse("hello").variables == ("response",)
    assert ChatTemplate.parse("{{ .Messages }}").variables == ("messages",)
    assert rendered("{{ .System }}:", *TURNS[:3]) == "s:a1"


def test_what_a_template_must_not_do() -> None:
    with pytest.raises(TemplateSyntaxError, match=r"^undefined template specified$"):
        ChatTemplate.parse('{{ define "x" }}{{ end }}{{ template "x" }}')
    with pytest.raises(TemplateExecError, match=r"can't evaluate field Foo in type \*template\.templateMessage$"):
        rendered("{{ range .Messages }}{{ .Foo }}{{ end }}", *TURNS)


def test_all_turns_share_the_limits() -> None:
    template = ChatTemplate.parse("{{ range 100 }}{{ end }}{{ .Prompt }}{{ .Response }}")
    turns = [Message(role, "x") for _ in range(100) for role in ("user", "assistant")]
    with pytest.raises(TemplateLimitError):
        template.render(Conversation(messages=turns), Limits(steps=10_000))
    assert template.render(Conversation(messages=turns[:2]), Limits(steps=10_000)) == "xx"


def test_long_conversations_fit() -> None:
    template = '{{ range $i, $m := .Messages }}{{ $last := eq (len (slice $.Messages $i)) 1 }}{{ if eq .Role "user" }}'
    template += (
        '<u>{{ .Content }}{{ else if eq .Role "assistant" }}<a>{{ .Content }}{{ end }}{{ if $last }}!{{ end }}{{ end }}'
    )
    turns = [Message(role, "word " * 50) for _ in range(2048) for role in ("user", "assistant")]
    assert rendered(template, *turns).count("<a>") == 2048
