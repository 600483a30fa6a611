"""Prompts by chat templates, and what is done around them: continued answers, reasoning, system messages, calls."""

import json
from typing import Any

import pytest

from engine.api import Delta, Message, Think, ToolCall
from engine.chat.jinja.renderer import JinjaRenderer
from engine.chat.jinja.sandbox import RenderError
from engine.chat.jinja.template import CHATML, JinjaTemplate
from engine.chat.output import FormatSpec, native_format
from engine.chat.output.format import CONTENT_ONLY
from engine.chat.prompt import Prompt

ALL = "{{ messages | tojson }}{{ tools | tojson if tools }}|{{ enable_thinking }}|{{ reasoning_effort }}|{{ thinking }}"


def render(source: str, *messages: Message, tools: Any = (), think: Think | None = None) -> str:
    return JinjaRenderer(JinjaTemplate(source)).render(messages, tools, think).text


@pytest.mark.parametrize(("think", "shown"), [(None, "on"), (True, "on"), ("low", "on"), (False, "off")])
@pytest.mark.parametrize(
    "off",
    ["reasoning is defined and not reasoning", "thinking_mode == 'disabled'", "thinking_budget == 0"],
)
def test_other_names_for_thinking(off: str, think: Think | None, shown: str) -> None:
    assert render(f"{{{{ 'off' if {off} else 'on' }}}}", Message("user", "Hi"), think=think) == shown


@pytest.mark.parametrize(
    ("think", "shown"),
    [(None, "True||True"), (True, "True||True"), (False, "False||False"), ("high", "True|high|True")],
)
def test_thinking(think: Think | None, shown: str) -> None:
    assert render(ALL, Message("user", "Hi"), think=think) == f'[{{"role": "user", "content": "Hi"}}]|{shown}'


def test_a_developer_is_the_system() -> None:
    assert render("{{ messages | tojson }}", Message("developer", "D")) == '[{"role": "system", "content": "D"}]'


@pytest.mark.parametrize(
    ("template_word", "think", "effort"),
    [
        ("low xhigh", "high", "xhigh"),
        ("low xhigh", "max", "xhigh"),
        ("low high no_think", "medium", "high"),
        ("low medium high max", "max", "max"),
    ],
)
def test_words_for_how_hard_to_think(template_word: str, think: Think, effort: str) -> None:
    source = f"{{% if reasoning_effort not in {template_word.split()} %}}{{{{ raise_exception('no!') }}}}{{% endif %}}"
    assert render(source + "{{ reasoning_effort }}", Message("user", "Hi"), think=think) == effort


def test_a_word_that_no_template_can_take_is_refused() -> None:
    with pytest.raises(RenderError, match=r"^not medium$"):
        render("{{ raise_exception('not ' ~ reasoning_effort) }}", Message("user", "Hi"), think="medium")


def test_results_are_tied_to_calls() -> None:
    call = ToolCall("f", {})
    text = render(
        "{% for m in messages %}{% for c in m.tool_calls or [] %}{{ c.function.name }}={{ c.id }};{% endfor %}"
        "{% if m.role == 'tool' %}{{ m.name }}={{ m.tool_call_id }}:{{ m.content }};{% endif %}{% endfor %}",
        Message("user", "Hi"),
        Message("assistant", tool_calls=(call, call)),
        Message("tool", "1"),
        Message("tool", "2"),
    )
    assert text == "f=call_1_0;f=call_1_1;f=call_1_0:1;f=call_1_1:2;"


def continued(source: str, answer: Message, think: Think | None = None, spec: FormatSpec = CONTENT_ONLY) -> Prompt:
    return JinjaRenderer(JinjaTemplate(source), spec).render([Message("user", "Hi"), answer], [], think)


def test_the_last_answer_is_continued() -> None:
    prompt = continued(CHATML + "{{ enable_thinking }}|", Message("assistant", "Well", thinking="Hm"))
    assert prompt.text == "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nTrue|Well"
    assert prompt.answer_start == Delta("Well")


@pytest.mark.parametrize(("end", "text"), [("", "<|TEXT|>Well"), ("<|TEXT|>", "<|TEXT|>Well")])
def test_what_is_continued_is_content(end: str, text: str) -> None:
    source, spec = f"A:{{{{ {end!r} }}}}", FormatSpec(content="<|TEXT|>")
    assert continued(source, Message("assistant", "Well"), spec=spec).text == f"A:{text}"
    assert continued(source, Message("assistant", ""), spec=spec).text == f"A:{end}"


THINKS = FormatSpec(("<think>", "</think>"))
OPEN = "{% for m in messages %}{{ m.role }}:{{ m.content }};{% endfor %}assistant:{{ '<think>\n' }}"
CLOSED = OPEN.replace("'<think>\n'", "'' if enable_thinking else '<think>\n\n</think>\n'")
SHOWN = CLOSED.replace(
    "{{ m.content", "{{ '<think> %s </think> ' % m.reasoning_content if m.reasoning_content }}{{ m.content"
)
SOURCES = pytest.mark.parametrize(
    ("source", "opening", "closing"),
    [
        (OPEN, "<think>\n", "\n</think>\n\n"),
        (CLOSED, "<think>\n", "\n</think>\n"),
        (SHOWN, "<think> ", " </think> "),
    ],
)


@SOURCES
@pytest.mark.parametrize("think", [None, True, False])
def test_content_is_continued_behind_its_thoughts(source: str, opening: str, closing: str, think: Think | None) -> None:
    prompt = continued(source, Message("assistant", "Well"), think, THINKS)
    assert prompt.text == f"user:Hi;assistant:{opening}{closing}Well"
    assert prompt.before_answer == prompt.text.removesuffix("Well")
    assert prompt.answer_start == Delta("Well")
    prompt = continued(source, Message("assistant", "Well", thinking="Hm"), think, THINKS)
    assert prompt.text == f"user:Hi;assistant:{opening}Hm{closing}Well"
    assert prompt.answer_start == Delta("Well", "Hm")


@SOURCES
def test_thoughts_are_continued(source: str, opening: str, closing: str) -> None:
    prompt = continued(source, Message("assistant", "", thinking="Hm"), spec=THINKS)
    assert prompt.text == f"user:Hi;assistant:{opening}Hm"
    assert prompt.before_answer == f"user:Hi;assistant:{opening}"
    assert prompt.answer_start == Delta(thinking="Hm")


def test_an_empty_block_of_the_templates_own() -> None:
    source = "{{ messages[0].content }}:{{ '' if enable_thinking else '<think>\n</think>' }}"
    assert continued(source, Message("assistant", "Well"), spec=THINKS).text == "Hi:<think>\n</think>Well"


def test_a_block_that_is_only_closed_is_replaced() -> None:
    source = "{{ messages[0].content }}:</think>{{ '<think>' if false }}"
    for asked in ("Hi", "What does <think> mean?"):
        prompt = JinjaRenderer(JinjaTemplate(source), THINKS).render(
            [Message("user", asked), Message("assistant", "Well")], [], False
        )
        assert prompt.text == f"{asked}:<think>\n\n</think>\n\nWell"


MARKED = FormatSpec((" to=self|", "<end><start>assistant"), " to=user|")


@pytest.mark.parametrize(
    ("end", "thinking", "text"),
    [
        ("", "", " to=user|Well"),
        ("", "Hm", " to=self|Hm<end><start>assistant to=user|Well"),
        (" to=self|", "", " to=self|<end><start>assistant to=user|Well"),
        (" to=self|<end><start>assistant", "", " to=self|<end><start>assistant to=user|Well"),
    ],
)
def test_content_with_a_mark_of_its_own(end: str, thinking: str, text: str) -> None:
    source = f"{{{{ messages[0].content }}}}<end><start>assistant{end}"
    prompt = continued(source, Message("assistant", "Well", thinking=thinking), spec=MARKED)
    assert prompt.text == f"Hi<end><start>assistant{text}"


def test_a_template_that_always_begins_to_think_is_stopped() -> None:
    def asked(think: Think | None) -> str:
        return JinjaRenderer(JinjaTemplate(OPEN), THINKS).render([Message("user", "Hi")], [], think).text

    assert asked(False) == "user:Hi;assistant:<think>\n\n</think>\n\n"
    assert asked(True) == asked(None) == "user:Hi;assistant:<think>\n"


def test_an_empty_answer_begins_as_any_other() -> None:
    prompt = continued(OPEN, Message("assistant", ""), spec=THINKS)
    assert prompt == Prompt("user:Hi;assistant:<think>\n", reject_overflow=True)


def test_calls_cannot_be_continued() -> None:
    with pytest.raises(RenderError):
        render(CHATML, Message("user", "Hi"), Message("assistant", tool_calls=(ToolCall("f", {}),)))


def test_a_template_without_a_system_role() -> None:
    source = (
        "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('System role not supported') }}"
        "{% endif %}{{ m.role }}:{{ m.content }};{% endfor %}"
    )
    assert render(source, Message("system", "S"), Message("user", "U")) == "user:S\nU;"
    assert render(source, Message("developer", "S"), Message("user", "U")) == "user:S\nU;"


def test_a_template_with_a_place_for_one_system_message() -> None:
    source = (
        "{% if messages[0].role == 'system' %}{{ messages[0].content }}!{% endif %}"
        "{% for m in messages if m.role != 'system' %}{{ m.role }}:{{ m.content }};{% endfor %}"
    )
    asked = [Message("system", "S"), Message("system", "T"), Message("user", "U"), Message("system", "V")]
    assert render(source, *asked, Message("user", "W")) == "S\n\nT!user:U;user:V\nW;"
    assert render(source, *asked[:1], Message("user", "U")) == "S!user:U;"


def test_a_template_with_one_call_for_each_message() -> None:
    source = (
        "{% for m in messages %}{{ m.role }}:{{ m.content }}"
        "{% if m.tool_calls %}{{ m.tool_calls[0].function.name }}{% endif %};{% endfor %}"
    )
    calls = (ToolCall("f", {}), ToolCall("g", {}))
    asked = [Message("assistant", "x", tool_calls=calls), Message("tool", "1"), Message("tool", "2")]
    assert render(source, *asked) == "assistant:xf;tool:1;assistant:g;tool:2;"


def test_a_template_that_leaves_calls_out() -> None:
    source = "<tool_call>{{ tools }}{% for m in messages %}{{ m.role }}:{{ m.content }};{% endfor %}"
    renderer = JinjaRenderer(JinjaTemplate(source), native_format(source).spec)
    called = Message("assistant", "So: ", tool_calls=(ToolCall("f", {"a": 1}),))
    text = renderer.render([Message("user", "Hi"), called, Message("tool", "2")], [], None).text
    call = '<tool_call>\n{"name": "f", "arguments": {"a": 1}}\n</tool_call>'
    assert text == f"<tool_call>user:Hi;assistant:So: {call};tool:2;"


def test_a_template_that_wants_functions_as_text() -> None:
    source = "{{ 'functions: ' + functions }}{% for m in messages %}{{ m.content }}{% endfor %}"
    tools = [{"type": "function", "function": {"name": "f"}}]
    assert json.loads(render(source, tools=tools).removeprefix("functions: ")) == tools
    assert render(source, Message("user", "U")) == "functions: U"


def test_a_template_that_wants_arguments_as_text() -> None:
    source = (
        "{% for m in messages %}{% for c in m.tool_calls or [] %}"
        "{% if c.function.arguments is not string %}{{ raise_exception('text!') }}{% endif %}"
        "{{ c.function.name }}{{ c.function.arguments }}{% endfor %}{% endfor %}"
    )
    called = Message("assistant", tool_calls=(ToolCall("f", {"a": "é"}),))
    assert render(source, called, Message("user")) == 'f{"a": "é"}'


def test_a_refusal_is_told() -> None:
    source = "{{ raise_exception('roles: ' ~ messages | map(attribute='role') | join(' ')) }}"
    with pytest.raises(RenderError, match=r"^roles: system user$"):
        render(source, Message("system", "S"), Message("user", "U"))


CALL = "{% for c in m.tool_calls or [] %}{{ c.function.name }}({{ c.function.arguments | tojson }}){% endfor %}"


def each(thinking: str, text: str = "{{ m.content }}") -> str:
    """A template that writes every message, its reasoning by this piece of it."""
    return "{% for m in messages %}[{{ m.role }}|" + thinking + "|" + text + "|" + CALL + "]{% endfor %}"


PART = "{% for p in m.content if p.type == 'thinking' %}{{ p.thinking }}{% endfor %}"
STEP = (
    Message("user", "Hi"),
    Message("assistant", thinking="Hm.\n", tool_calls=(ToolCall("f", {}), ToolCall("g", {}))),
    Message("tool", "1"),
    Message("tool", "2"),
)


@pytest.mark.parametrize("key", ["reasoning_content", "thinking", "reasoning"])
def test_earlier_reasoning_stands_where_the_template_looks_for_it(key: str) -> None:
    assert "[assistant|Hm.\n||f({})g({})]" in render(each("{{ m." + key + " }}"), *STEP)


def test_earlier_reasoning_as_a_part_of_the_content() -> None:
    source = each("{% if m.content is not string %}" + PART + "{% endif %}", "")
    assert "[assistant|Hm.\n||f({})g({})]" in render(source, *STEP)


@pytest.mark.parametrize("content", ["{{ m.content }}", "{{ m.content | tojson }}"])
def test_a_template_that_knows_no_reasoning_gets_none(content: str) -> None:
    shown = render("{% for m in messages %}" + content + CALL + "{% endfor %}", *STEP)
    assert "Hm." not in shown
    assert "type" not in shown


def test_line_breaks_that_the_template_writes_around_reasoning_are_not_doubled() -> None:
    assert "[assistant|<think>\nHm.\n</think>||f" in render(each("<think>\n{{ m.reasoning_content }}\n</think>"), *STEP)


def test_only_the_first_of_calls_one_by_one_has_the_reasoning() -> None:
    first = "[{{ m.role }}|{{ m.thinking }}|{{ m.tool_calls[0].function.name if m.tool_calls }}|{{ m.content }}]"
    assert render("{% for m in messages %}" + first + "{% endfor %}", *STEP) == (
        "[user|||Hi][assistant|Hm.\n|f|][tool|||1][assistant||g|][tool|||2]"
    )


def test_reasoning_and_content_together_for_a_template_that_refuses_both() -> None:
    """As gpt-oss's, which writes either before the call."""
    both = "{% if m.tool_calls and m.content and m.thinking %}{{ raise_exception('both') }}{% endif %}"
    messages = [STEP[0], Message("assistant", "I look.", "Hm.", tool_calls=(ToolCall("f", {}),)), STEP[2]]
    assert "[assistant|Hm.\n\nI look.||f({})]" in render(each(both + "{{ m.thinking }}"), *messages)


def test_which_reasoning_counts_is_for_the_template_to_say() -> None:
    users = "{% for m in messages %}{% if m.role == 'user' %}{% set ns.last = loop.index0 %}{% endif %}{% endfor %}"
    newest = "{% set ns = namespace(last=0) %}" + users
    source = newest + each("{{ m.thinking if loop.index0 > ns.last }}")
    assert "[assistant|Hm.\n||f({})g({})]" in render(source, *STEP)
    assert "[assistant|||f({})g({})]" in render(source, *STEP, Message("user", "And?"))


def test_a_template_that_thinks_only_when_told_how_much_is_told() -> None:
    source = "{{ '<think>' if reasoning_effort == 'high' else '<think></think>' }}"
    strict = "{% if reasoning_effort is defined and reasoning_effort != 'high' %}{{ raise_exception('no') }}{% endif %}"
    renderer = JinjaRenderer(JinjaTemplate(strict + source), FormatSpec(("<think>", "</think>")))
    assert renderer.render([Message("user", "Hi")], [], True).text == "<think>"
    assert renderer.render([Message("user", "Hi")], [], False).text == "<think></think>"
