"""Which template writes the prompts of a model, and what that says about the model."""

import pytest

from engine.chat.golang import GoRenderer
from engine.chat.native import NativeRenderer
from engine.chat.route import choose_route, completion_route
from engine.errors import InvalidRequest
from engine.requests import Message
from registry.manifest import ModelConfig

GO = "{{ range .Messages }}{{ .Role }}: {{ .Content }}\n{{ end }}"
GO_TOOLS = (
    "{{ if .Tools }}{{ .Tools }}{{ end }}{{ range .Messages }}"
    '{{ if eq .Role "tool" }}{{ .Content }}{{ end }}{{ .ToolCalls }}{{ end }}'
)
CHAT = "{% for m in messages %}{{ m.content }}{% endfor %}"
CHAT_THINKS = CHAT + "<think></think>"
CHAT_TOOLS = CHAT + "{{ tools }}{{ tool_calls }}{% if message.role == 'tool' %}{% endif %}"


@pytest.mark.parametrize(
    ("template", "chat", "setting", "native"),
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
def test_the_choice(template: str | None, chat: str, setting: bool | None, native: bool) -> None:
    route = choose_route("m", ModelConfig(), template, chat, {}, setting)
    assert route.native is native
    assert isinstance(route.renderer, NativeRenderer if native else GoRenderer)


def test_a_parser_alone_gets_the_plain_template() -> None:
    route = choose_route("m", ModelConfig(parser="qwen3-coder"), None, CHAT, {}, None)
    assert not route.native
    assert route.parser_capabilities == {"tools"}
    assert route.renderer.render([Message("user", "Hi")], [], None).text == "Hi"


def test_an_unknown_parser_adds_nothing() -> None:
    assert choose_route("m", ModelConfig(parser="nosuch"), None, CHAT, {}, None).parser_capabilities == set()


def test_gpt_oss_speaks_harmony() -> None:
    route = choose_route("m", ModelConfig(model_family="gptoss"), "<|start|>{{ .Prompt }}<|end|>", CHAT_TOOLS, {}, None)
    assert not route.native
    assert route.parser_capabilities == {"tools", "thinking"}


def test_without_any_template_a_completion_is_the_prompt_itself() -> None:
    route = choose_route("m", ModelConfig(), None, "", {}, None)
    assert "<|im_start|>" in route.renderer.render([Message("user", "Hi")], [], None).text
    assert completion_route(route, "").renderer.render([Message("user", "Hi")], [], None).text == "Hi"


def test_a_named_renderer_wins_over_both_templates() -> None:
    config = ModelConfig(renderer="qwen3-coder", parser="qwen3-coder")
    route = choose_route("m", config, GO_TOOLS, CHAT_TOOLS, {}, None)
    assert not route.native
    assert route.renderer.render([Message("user", "Hi")], [], None).text == (
        "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    )


def test_an_unknown_renderer() -> None:
    route = choose_route("m", ModelConfig(renderer="nosuch"), None, "", {}, None)
    with pytest.raises(InvalidRequest, match='unknown renderer "nosuch"'):
        route.renderer.render([Message("user", "Hi")], [], None)


def test_reasoning_in_tags_of_its_own_is_a_capability() -> None:
    for chat, thinks in ((CHAT + "<seed:think></seed:think>", True), (CHAT + "[TOOL_CALLS]", False)):
        assert choose_route("m", ModelConfig(), None, chat, {}, None).traits.thinking is thinks


def test_a_template_for_requests_with_tools() -> None:
    route = choose_route("m", ModelConfig(), None, CHAT, {}, None, "with tools: <tool_call>" + CHAT)
    assert route.traits.tools
    assert route.format.preserved == ("<tool_call>", "</tool_call>")
    asked = [Message("user", "Hi")]
    assert route.renderer.render(asked, [], None).text == "Hi"
    assert route.renderer.render(asked, [{"type": "function"}], None).text == "with tools: <tool_call>Hi"
