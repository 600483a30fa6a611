"""Tags in the place of images."""

from __future__ import annotations

import pytest

from engine.chat.renderers.images import tagged
from engine.requests import Message


@pytest.mark.parametrize(
    ("content", "count", "expected"),
    [
        ("look", 2, "[img-1][img-2] look"),
        ("", 1, "[img-1]"),
        ("\nlook", 1, "[img-1]\nlook"),
        ("a [img] b [img]", 2, "a [img-1] b [img-2]"),
        ("a [img] b", 2, "[img-2] a [img-1] b"),
        ("a [img] b [img]", 1, "a [img-1] b [img]"),
        ("a [img-7] b [img]", 2, "a [img-7] b [img]"),
    ],
)
def test_places(content: str, count: int, expected: str) -> None:
    first = Message("user", "first", images=(b"0",))
    last = Message("user", "last", images=(b"9",))
    found = tagged([first, Message("assistant", "[img]"), Message("user", content, images=(b"1",) * count), last])
    assert [message.content for message in found] == [
        "[img-0] first",
        "[img]",
        expected,
        f"[img-{count + 1}] last",
    ]
