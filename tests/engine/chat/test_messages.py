"""Which messages a model reads, in which order, and how a conversation is shortened."""

import pytest

from engine.chat import jinja
from engine.chat.golang import GoRenderer
from engine.chat.messages import conversation, fitting_ends, forgets_thinking, without_old_thoughts
from engine.chat.native import NativeRenderer
from engine.chat.render import Prompt, render_to_fit
from engine.requests import Message
from modelfile.gotemplate import ChatTemplate

S, U, A = (Message(role, role[0]) for role in ("system", "user", "assistant"))


def test_the_systems_prompt_comes_first() -> None:
    assert conversation("S", [A], [U]) == [Message("system", "S"), A, U]
    assert conversation("", [A], [U]) == [A, U]


def test_a_system_message_of_the_request_wins() -> None:
    own = Message("system", "mine")
    assert conversation("S", [A], [own, U]) == [A, own, U]


def test_shortening_keeps_system_messages_and_the_last() -> None:
    assert fitting_ends([S, U, A, U]) == [[S, U, A, U], [S, U, A, U], [S, A, U], [S, U]]


@pytest.mark.parametrize(
    ("family", "name", "forgets"), [("qwen3", "x", True), ("llama", "deepseek-r1", True), ("llama", "llama3", False)]
)
def test_who_forgets(family: str, name: str, forgets: bool) -> None:
    assert forgets_thinking(family, name) is forgets


def test_old_thoughts_are_dropped_newer_ones_stay() -> None:
    thinking = Message("assistant", "<think>\nhm\n</think>\n\nYes")
    assert without_old_thoughts([U, thinking, U, thinking]) == [U, Message("assistant", "Yes"), U, thinking]
    plain = Message("assistant", "a </think> b")
    assert without_old_thoughts([U, plain, U]) == [U, plain, U]


class Spelled:
    """Renders a conversation as the contents of its messages, one word each."""

    def __init__(self, trims_single: bool) -> None:
        self.trims_single = trims_single

    def render(self, messages: list[Message], tools: object, think: object) -> Prompt:
        return Prompt(" ".join(message.content for message in messages))


async def count(text: str) -> int:
    return len(text.split())


@pytest.mark.parametrize(("limit", "text"), [(4, "s u a u"), (3, "s a u"), (2, "s u"), (1, "s u")])
async def test_fitting(limit: int, text: str) -> None:
    prompt = await render_to_fit(Spelled(True), [S, U, A, U], [], None, limit=limit, count=count)
    assert prompt.text == text


@pytest.mark.parametrize(("limit", "kept"), [(2048, ("a", "b")), (1536 + 2, ("a", "b")), (1537, ("b",)), (1, ("b",))])
async def test_images_count_while_a_conversation_is_fitted(limit: int, kept: tuple[str, ...]) -> None:
    messages = [Message("user", name, images=(name.encode(),)) for name in ("a", "b")]
    prompt = await render_to_fit(Spelled(True), messages, [], None, limit=limit, count=count, image_tokens=768)
    assert prompt.text == " ".join(kept)
    assert prompt.images == tuple(name.encode() for name in kept)


async def test_tags_of_images_do_not_count() -> None:
    renderer = GoRenderer(ChatTemplate.parse("{{ range .Messages }}{{ .Content }}{{ end }}"))
    messages = [Message("user", "a", images=(b"0",)), Message("assistant", "b"), Message("user", "c")]
    prompt = await render_to_fit(renderer, messages, [], None, limit=3, count=count)
    assert prompt.text == "[img-0]abc"


ALTERNATING = (
    "{% for m in messages if m.role != 'system' %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}{{ m.content }} {% endfor %}"
)


@pytest.mark.parametrize(("limit", "text"), [(5, "u a u a u "), (4, "u a u "), (2, "u "), (0, "u ")])
async def test_ends_that_a_template_refuses_are_passed_over(limit: int, text: str) -> None:
    renderer = NativeRenderer(jinja.ChatTemplate(ALTERNATING))
    prompt = await render_to_fit(renderer, [U, A, U, A, U], [], None, limit=limit, count=count)
    assert prompt.text == text


async def test_a_refusal_of_the_whole_is_told() -> None:
    renderer = NativeRenderer(jinja.ChatTemplate(ALTERNATING))
    with pytest.raises(jinja.TemplateError, match="roles must alternate"):
        await render_to_fit(renderer, [U, U, A], [], None, limit=9, count=count)
    with pytest.raises(jinja.TemplateError, match="roles must alternate"):
        await render_to_fit(renderer, [A, U, U], [], None, limit=9, count=count)


async def test_where_only_too_long_prompts_can_be_made_the_shortest_of_them_is() -> None:
    source = "{{ raise_exception('no question') if 'user' not in messages | map(attribute='role') }}many words"
    renderer = NativeRenderer(jinja.ChatTemplate(source))
    prompt = await render_to_fit(renderer, [U, A, Message("tool", "x")], [], None, limit=1, count=count)
    assert prompt.text == "many words"
