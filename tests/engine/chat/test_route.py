"""Which template writes a model's prompts, and what that says about the model."""

from collections.abc import Sequence
from typing import Any

import pytest

from engine.api import Message
from engine.chat.go_template import GoRenderer
from engine.chat.jinja.messages import ChatTemplates
from engine.chat.jinja.worker import renderer_of
from engine.chat.route import PromptRoute, choose_route, completion_route
from engine.errors import InvalidRequest
from registry.manifest import ModelConfig

GO = "{{ range .Messages }}{{ .Role }}: {{ .Content }}\n{{ end }}"
GO_TOOLS = (
    "{{ if .Tools }}{{ .Tools }}{{ end }}{{ range .Messages }}"
    '{{ if eq .Role "tool" }}{{ .Content }}{{ end }}{{ .ToolCalls }}{{ end }}'
)
CHAT = "{% for m in messages %}{{ m.content }}{% endfor %}"
CHAT_THINKS = CHAT + "<think></think>"
CHAT_TOOLS = CHAT + "{{ tools }}{{ tool_calls }}{% if message.role == 'tool' %}{% endif %}"


def written(route: PromptRoute, tools: Sequence[dict[str, Any]] = ()) -> str:
    """The prompt for one word."""
    renderer: Any = renderer_of(route.renderer) if isinstance(route.renderer, ChatTemplates) else route.renderer
    text: str = renderer.render([Message("user", "Hi")], tools, None).text
    return text


@pytest.mark.parametrize(
    ("template", "chat", "setting", "embedded"),
    [
        (None, CHAT, None, True),
        (None, "", None, True),
        (GO, "", None, False),
        (GO, CHAT, None, False),
        (GO, CHAT_THINKS, None, True),
        (GO, CHAT_TOOLS, None, True),
        (GO_TOOLS, CHAT_TOOLS, None, False),
        (GO_TOOLS, CHAT_THINKS, None, False),
        (GO, CHAT_THINKS, True, False),
        (GO, CHAT, False, True),
    ],
)
def test_the_choice(template: str | None, chat: str, setting: bool | None, embedded: bool) -> None:
    route = choose_route("m", ModelConfig(), template, chat, {}, setting)
    assert route.uses_embedded_template is embedded
    assert isinstance(route.renderer, ChatTemplates if embedded else GoRenderer)


def test_a_parser_alone_gets_the_plain_template() -> None:
    route = choose_route("m", ModelConfig(parser="qwen3-coder"), None, CHAT, {}, None)
    assert not route.uses_embedded_template
    assert route.parser_capabilities == {"tools"}
    assert written(route) == "Hi"


def test_an_unknown_parser_adds_nothing() -> None:
    assert choose_route("m", ModelConfig(parser="nosuch"), None, CHAT, {}, None).parser_capabilities == set()


def test_gpt_oss_speaks_harmony() -> None:
    route = choose_route("m", ModelConfig(model_family="gptoss"), "<|start|>{{ .Prompt }}<|end|>", CHAT_TOOLS, {}, None)
    assert not route.uses_embedded_template
    assert route.parser_capabilities == {"tools", "thinking"}


def test_without_any_template_a_completion_is_the_prompt_itself() -> None:
    route = choose_route("m", ModelConfig(), None, "", {}, None)
    assert "<|im_start|>" in written(route)
    assert written(completion_route(route, "")) == "Hi"


def test_a_named_renderer_wins_over_both_templates() -> None:
    config = ModelConfig(renderer="qwen3-coder", parser="qwen3-coder")
    route = choose_route("m", config, GO_TOOLS, CHAT_TOOLS, {}, None)
    assert not route.uses_embedded_template
    assert written(route) == ("<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n")


def test_an_unknown_renderer() -> None:
    route = choose_route("m", ModelConfig(renderer="nosuch"), None, "", {}, None)
    with pytest.raises(InvalidRequest, match='unknown renderer "nosuch"'):
        written(route)


def test_reasoning_in_tags_of_its_own_is_a_capability() -> None:
    for chat, thinks in ((CHAT + "<seed:think></seed:think>", True), (CHAT + "[TOOL_CALLS]", False)):
        assert choose_route("m", ModelConfig(), None, chat, {}, None).traits.thinking is thinks


def test_a_template_for_requests_with_tools() -> None:
    route = choose_route("m", ModelConfig(), None, CHAT, {}, None, "with tools: <tool_call>" + CHAT)
    assert route.traits.tools
    assert route.answer_format.preserved == ("<tool_call>", "</tool_call>")
    assert written(route) == "Hi"
    assert written(route, [{"type": "function"}]) == "with tools: <tool_call>Hi"
