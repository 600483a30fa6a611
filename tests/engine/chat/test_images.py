"""Tags in the place of images."""

from __future__ import annotations

import pytest

from engine.api import Message
from engine.chat.go_template import GoRenderer
from engine.chat.jinja.renderer import JinjaRenderer
from engine.chat.jinja.template import ChatTemplate
from engine.chat.prompt import Placing, behind, images_of, in_front, in_front_apart, tagged, without_images
from modelfile import gotemplate


@pytest.mark.parametrize(
    ("place", "content", "count", "expected"),
    [
        (in_front, "Compare", 2, "[img-0][img-1]Compare"),
        (in_front, "a [img] b", 1, "a [img-0] b"),
        (in_front, "a [img] b", 2, "[img-1]a [img-0] b"),
        (in_front, "a [img] b [img]", 1, "a [img-0] b [img]"),
        (in_front, "", 1, "[img-0]"),
        (in_front_apart, "look", 2, "[img-0][img-1] look"),
        (in_front_apart, "", 1, "[img-0]"),
        (in_front_apart, "\nlook", 1, "[img-0]\nlook"),
        (in_front_apart, "a [img] b", 2, "[img-1] a [img-0] b"),
        (in_front_apart, "a [img-7] b [img]", 2, "a [img-7] b [img]"),
        (behind, "Compare", 2, "Compare[img-0][img-1]"),
        (behind, "a [img] b", 1, "a [img] b[img-0]"),
        (behind, "[img-0]Compare", 1, "[img-0]Compare"),
    ],
)
def test_places(place: Placing, content: str, count: int, expected: str) -> None:
    (found,) = tagged([Message("user", content, images=(b"1",) * count)], place)
    assert found.content == expected


def test_numbers_go_through_the_conversation() -> None:
    first = Message("user", "first", images=(b"0", b"1"))
    last = Message("user", "last", images=(b"2",))
    messages = [first, Message("assistant", "[img]"), last]
    assert [message.content for message in tagged(messages, in_front)] == [
        "[img-0][img-1]first",
        "[img]",
        "[img-2]last",
    ]
    assert images_of(messages) == (b"0", b"1", b"2")
    assert images_of(without_images(messages)) == ()


def test_by_a_go_template() -> None:
    messages = [Message("user", "a", images=(b"0",)), Message("user", "b", images=(b"1",))]
    for source in ("{{ range .Messages }}{{ .Content }}{{ end }}", "{{ .Prompt }}"):
        prompt = GoRenderer(gotemplate.ChatTemplate.parse(source)).render(messages, [], None)
        assert prompt.text == "[img-0]a\n\n[img-1]b"


def test_by_a_chat_template() -> None:
    source = "{% for m in messages %}{{ m.role }}:{{ m.content }};{% endfor %}"
    messages = [Message("user", "a", images=(b"0",)), Message("assistant", "x"), Message("user", "b", images=(b"1",))]
    assert (
        JinjaRenderer(ChatTemplate(source)).render(messages, [], None).text
        == "user:a[img-0];assistant:x;user:b[img-1];"
    )
