"""Image tags in messages, for every way of rendering."""

from __future__ import annotations

import pytest

from engine.api import Message
from engine.chat.go_template import GoRenderer
from engine.chat.jinja.renderer import JinjaRenderer
from engine.chat.jinja.template import JinjaTemplate
from engine.chat.prompt import (
    Prompt,
    TagPlacement,
    images_of,
    tag_images,
    tags_first,
    tags_first_spaced,
    tags_last,
    without_images,
    without_tags,
)
from modelfile import gotemplate


@pytest.mark.parametrize(
    ("placement", "content", "count", "expected"),
    [
        (tags_first, "Compare", 2, "[img-0][img-1]Compare"),
        (tags_first, "a [img] b", 1, "a [img-0] b"),
        (tags_first, "a [img] b", 2, "[img-1]a [img-0] b"),
        (tags_first, "a [img] b [img]", 1, "a [img-0] b [img]"),
        (tags_first, "", 1, "[img-0]"),
        (tags_first_spaced, "look", 2, "[img-0][img-1] look"),
        (tags_first_spaced, "", 1, "[img-0]"),
        (tags_first_spaced, "\nlook", 1, "[img-0]\nlook"),
        (tags_first_spaced, "a [img] b", 2, "[img-1] a [img-0] b"),
        (tags_first_spaced, "a [img-7] b [img]", 2, "a [img-7] b [img]"),
        (tags_last, "Compare", 2, "Compare[img-0][img-1]"),
        (tags_last, "a [img] b", 1, "a [img] b[img-0]"),
        (tags_last, "[img-0]Compare", 1, "[img-0]Compare"),
    ],
)
def test_places(placement: TagPlacement, content: str, count: int, expected: str) -> None:
    (tagged,) = tag_images([Message("user", content, images=(b"1",) * count)], placement)
    assert tagged.content == expected


def test_numbers_go_through_the_conversation() -> None:
    first = Message("user", "first", images=(b"0", b"1"))
    last = Message("user", "last", images=(b"2",))
    messages = [first, Message("assistant", "[img]"), last]
    assert [message.content for message in tag_images(messages, tags_first)] == [
        "[img-0][img-1]first",
        "[img]",
        "[img-2]last",
    ]
    assert images_of(messages) == (b"0", b"1", b"2")
    assert images_of(without_images(messages)) == ()


def test_texts_without_tags() -> None:
    images = (b"0", b"1")
    assert without_tags(Prompt("[img-1]a[img-0]b[img-0][img-2]", images=images)) == "ab[img-0][img-2]"
    assert without_tags(Prompt("no place", images=images)) == "no place"


def test_by_a_go_template() -> None:
    messages = [Message("user", "a", images=(b"0",)), Message("user", "b", images=(b"1",))]
    for source in ("{{ range .Messages }}{{ .Content }}{{ end }}", "{{ .Prompt }}"):
        prompt = GoRenderer(gotemplate.ChatTemplate.parse(source)).render(messages, [], None)
        assert prompt.text == "[img-0]a\n\n[img-1]b"


def test_by_a_chat_template() -> None:
    source = "{% for m in messages %}{{ m.role }}:{{ m.content }};{% endfor %}"
    messages = [Message("user", "a", images=(b"0",)), Message("assistant", "x"), Message("user", "b", images=(b"1",))]
    assert (
        JinjaRenderer(JinjaTemplate(source)).render(messages, [], None).text
        == "user:a[img-0];assistant:x;user:b[img-1];"
    )
