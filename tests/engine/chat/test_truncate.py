"""Conversations shortened until they fit."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.api import Message
from engine.chat.conversation import drop_oldest
from engine.chat.go_template import GoRenderer
from engine.chat.jinja.renderer import JinjaRenderer
from engine.chat.jinja.template import JinjaTemplate, RenderError
from engine.chat.prompt import Prompt
from engine.chat.truncate import render_to_fit
from modelfile.gotemplate import ChatTemplate

S, U, A = (Message(role, role[0]) for role in ("system", "user", "assistant"))


class Spelled:
    """Renders a conversation as the contents of its messages, one word each."""

    def __init__(self, trims_single_message: bool) -> None:
        self.trims_single_message = trims_single_message
        self.rendered = 0

    def render(self, messages: list[Message], tools: object, think: object) -> Prompt:
        self.rendered += 1
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


async def test_a_conversation_that_fits_is_rendered_once() -> None:
    renderer = Spelled(True)
    for number, message in enumerate((U, Message("user", "u", images=(b"0",))), 1):
        prompt = await render_to_fit(renderer, [message, A, U], [], None, limit=800, count=count, image_tokens=768)
        assert (prompt.text, prompt.images) == ("u a u", message.images)
        assert renderer.rendered == number


ALTERNATING = (
    "{% for m in messages if m.role != 'system' %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}{{ m.content }} {% endfor %}"
)


@pytest.mark.parametrize(("limit", "text"), [(5, "u a u a u "), (4, "u a u "), (2, "u "), (0, "u ")])
async def test_ends_that_a_template_refuses_are_passed_over(limit: int, text: str) -> None:
    renderer = JinjaRenderer(JinjaTemplate(ALTERNATING))
    prompt = await render_to_fit(renderer, [U, A, U, A, U], [], None, limit=limit, count=count)
    assert prompt.text == text


async def test_a_refusal_of_the_whole_is_told() -> None:
    renderer = JinjaRenderer(JinjaTemplate(ALTERNATING))
    with pytest.raises(RenderError, match="roles must alternate"):
        await render_to_fit(renderer, [U, U, A], [], None, limit=9, count=count)
    with pytest.raises(RenderError, match="roles must alternate"):
        await render_to_fit(renderer, [A, U, U], [], None, limit=9, count=count)


async def test_where_only_too_long_prompts_can_be_made_the_shortest_of_them_is() -> None:
    source = "{{ raise_exception('no question') if 'user' not in messages | map(attribute='role') }}many words"
    renderer = JinjaRenderer(JinjaTemplate(source))
    prompt = await render_to_fit(renderer, [U, A, Message("tool", "x")], [], None, limit=1, count=count)
    assert prompt.text == "many words"


@given(
    st.lists(st.tuples(st.sampled_from(["system", "user", "assistant"]), st.integers(0, 5)), min_size=1, max_size=40),
    st.integers(0, 60),
)
async def test_as_many_as_fit_are_kept_and_few_are_tried(turns: list[tuple[str, int]], limit: int) -> None:
    messages = [Message(role, f"{at} " * words) for at, (role, words) in enumerate(turns)]
    renderer = Spelled(True)
    prompt = await render_to_fit(renderer, messages, [], None, limit=limit, count=count)
    ends = [drop_oldest(messages, start) for start in range(len(messages))]
    lengths = [sum(len(message.content.split()) for message in end) for end in ends]
    longest = next((end for end, length in zip(ends, lengths, strict=True) if length <= limit), ends[-1])
    assert prompt.text.split() == " ".join(message.content for message in longest).split()
    assert renderer.rendered <= 3 + len(messages).bit_length()


async def test_a_template_that_refuses_what_is_left_is_not_asked_for_ever() -> None:
    asked = 0

    class Choosy(Spelled):
        def render(self, messages: list[Message], tools: object, think: object) -> Prompt:
            nonlocal asked
            asked += 1
            if messages[0] != U:
                raise RenderError("no question")
            return super().render(messages, tools, think)

    prompt = await render_to_fit(Choosy(True), [U, *[A] * 2000], [], None, limit=5, count=count)
    assert len(prompt.text.split()) == 2001
    assert asked < 200


async def test_who_can_have_a_larger_limit_asks_for_it_first() -> None:
    asked: list[int] = []
    allowed = 0

    async def grow(tokens: int) -> int:
        asked.append(tokens)
        return allowed

    for limit, text, left_out in ((9, "s u a u", (0, 0)), (3, "s a u", (1, 1)), (2, "s u", (2, 2))):
        allowed = limit
        prompt = await render_to_fit(Spelled(True), [S, U, A, U], [], None, limit=2, count=count, grow=grow)
        assert (prompt.text, (prompt.left_out, prompt.left_out_tokens)) == (text, left_out)
    assert asked == [4, 4, 4]
    await render_to_fit(Spelled(True), [S, U, A, U], [], None, limit=4, count=count, grow=grow)
    await render_to_fit(Spelled(False), [U], [], None, limit=0, count=count, grow=grow)
    assert len(asked) == 3, "what fits, and what is never shortened"
