"""What goes into a chat template, and what is done around it."""

from typing import Any

import pytest

from engine.chat.jinja import CHATML, ChatTemplate
from engine.chat.native import NativeRenderer
from engine.chat.sandbox import TemplateError
from engine.requests import Message, Think, ToolCall

ALL = "{{ messages | tojson }}{{ tools | tojson if tools }}|{{ enable_thinking }}|{{ reasoning_effort }}"


def render(source: str, *messages: Message, tools: Any = (), think: Think | None = None) -> str:
    return NativeRenderer(ChatTemplate(source)).render(messages, tools, think).text


@pytest.mark.parametrize(
    ("think", "shown"),
    [(None, "True|"), (True, "True|"), (False, "False|"), ("high", "True|high")],
)
def test_thinking(think: Think | None, shown: str) -> None:
    assert render(ALL, Message("user", "Hi"), think=think) == f'[{{"role": "user", "content": "Hi"}}]|{shown}'


def test_calls_and_results() -> None:
    call = ToolCall("f", {"b": 1, "a": "x"}, id="c1")
    text = render(
        "{{ messages | tojson }}",
        Message("developer", "D"),
        Message("assistant", tool_calls=(call,), thinking="unseen"),
        Message("tool", "22", tool_name="f", tool_call_id="c1"),
    )
    assert text == (
        '[{"role": "system", "content": "D"}, {"role": "assistant", "content": "", "tool_calls": '
        '[{"type": "function", "id": "c1", "function": {"name": "f", "arguments": {"b": 1, "a": "x"}}}]}, '
        '{"role": "tool", "content": "22", "name": "f", "tool_call_id": "c1"}]'
    )


def test_the_last_answer_is_continued() -> None:
    renderer = NativeRenderer(ChatTemplate(CHATML + "{{ enable_thinking }}"))
    prompt = renderer.render([Message("user", "Hi"), Message("assistant", "Well")], [], True)
    assert prompt.text == "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nFalseWell"
    assert prompt.prefill == "Well"


def test_calls_cannot_be_continued() -> None:
    with pytest.raises(TemplateError):
        render(CHATML, Message("user", "Hi"), Message("assistant", tool_calls=(ToolCall("f", {}),)))


def test_a_template_without_a_system_role() -> None:
    source = (
        "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('System role not supported') }}"
        "{% endif %}{{ m.role }}:{{ m.content }};{% endfor %}"
    )
    assert render(source, Message("system", "S"), Message("user", "U")) == "user:S\nU;"


def test_a_template_that_wants_arguments_as_text() -> None:
    source = (
        "{% for m in messages %}{% for c in m.tool_calls or [] %}"
        "{% if c.function.arguments is not string %}{{ raise_exception('text!') }}{% endif %}"
        "{{ c.function.arguments }}{% endfor %}{% endfor %}"
    )
    assert (
        render(source, Message("assistant", tool_calls=(ToolCall("f", {"a": "é"}),)), Message("user")) == '{"a": "é"}'
    )


def test_the_first_refusal_is_told() -> None:
    source = "{{ raise_exception('roles: ' ~ messages | map(attribute='role') | join(' ')) }}"
    with pytest.raises(TemplateError, match=r"^roles: system user$"):
        render(source, Message("system", "S"), Message("user", "U"))
