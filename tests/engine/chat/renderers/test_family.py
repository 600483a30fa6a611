"""What all named renderers promise."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.api import Message, Think, Tool, ToolCall
from engine.chat.jinja.template import RenderError
from engine.chat.renderers import NAMES, renderer
from modelfile.conversation import Property
from tests.engine.chat.renderers.conversations import MESSAGES, THINK, TOOLS

WITH_IMAGES = (
    *("qwen3-vl-instruct", "qwen3-vl-thinking", "qwen3.5", "qwen3.8", "ornith", "nemotron-3-nano", "nemotron-3.5-nano"),
    *("gemma4", "gemma4-small", "gemma4-large", "glm-ocr", "lfm2", "lfm2-thinking", "glimmer"),
)


@settings(max_examples=300)
@given(name=st.sampled_from(NAMES), chat=st.lists(MESSAGES, max_size=5), tools=TOOLS, think=st.sampled_from(THINK))
def test_nothing_but_a_template_error(name: str, chat: list[Message], tools: list[Tool], think: Think | None) -> None:
    with suppress(RenderError):
        assert isinstance(renderer(name).render(chat, tools, think).text, str)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_said_is_shown_in_order(name: str) -> None:
    chat = [Message("user", "one"), Message("assistant", "two"), Message("user", "three")]
    text = renderer(name).render(chat, [], None).text
    assert text.rindex("one") < text.rindex("two") < text.rindex("three")
    assert renderer(name).trims_single_message


@pytest.mark.parametrize("name", WITH_IMAGES)
def test_each_image_has_its_place(name: str) -> None:
    chat = [
        Message("user", "old", images=(b"1",)),
        Message("assistant", "a"),
        Message("user", "new", images=(b"2", b"3")),
    ]
    text = renderer(name).render(chat, [], None).text
    assert "[img-0] old" in text
    assert "[img-1][img-2] new" in text


@pytest.mark.parametrize("name", sorted(set(NAMES) - set(WITH_IMAGES)))
def test_families_that_see_nothing_have_no_tags(name: str) -> None:
    assert "[img" not in renderer(name).render([Message("user", "Hi", images=(b"1",))], [], None).text


SHOW_NO_TOOLS = ("olmo3-think", "olmo3-32b-think")


@pytest.mark.parametrize("name", NAMES)
def test_nesting_without_end(name: str) -> None:
    deep: Any = "bottom"
    for _ in range(3000):
        deep = {"a": [deep]}
    calls = (ToolCall("f", {"x": deep}),)
    chat = [Message("user", "Hi"), Message("assistant", tool_calls=calls), Message("user", "Hi")]
    tools = [Tool("f", properties={"x": Property(type=("array",), items=deep)})]
    if name in SHOW_NO_TOOLS:
        assert renderer(name).render(chat, tools, None) == renderer(name).render(
            [*chat[:1], Message("assistant"), *chat[2:]], [], None
        )
        return
    with pytest.raises(RenderError, match="nested"):
        renderer(name).render(chat, tools, None)


def test_half_a_character_is_no_text() -> None:
    with pytest.raises(RenderError, match="no text"):
        renderer("qwen3.5").render([Message("user", "Hi")], [Tool("\ud800")], None)
