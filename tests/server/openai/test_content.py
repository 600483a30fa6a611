"""The content of messages: texts and parts."""

import base64
from typing import Any

import pytest

from server.http.body import FieldError
from server.openai.content import Content, parse_content

DATA = base64.b64encode(b"picture").decode()
IMAGE = f"data:image/png;base64,{DATA}"
NO_REMOTE = "image URLs are not currently supported, please use base64 encoded data instead"


@pytest.mark.parametrize(
    ("value", "content"),
    [
        ("Hi", Content("Hi")),
        ("", Content()),
        ([], Content()),
        ([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], Content("a\nb")),
        (
            [
                {"type": "text", "text": "What is it?"},
                {"type": "image_url", "image_url": {"url": IMAGE, "detail": "low"}},
                {"type": "image_url", "image_url": f"data:;base64,{DATA}"},
            ],
            Content("What is it?", (b"picture", b"picture")),
        ),
        ([{"type": "input_audio", "input_audio": {"data": DATA, "format": "wav"}}], Content(images=(b"picture",))),
        ([{"type": "refusal", "refusal": "No."}], Content("No.")),
    ],
)
def test_content(value: Any, content: Content) -> None:
    assert parse_content(value) == content


def image(url: Any) -> Any:
    return [{"type": "text", "text": "a"}, {"type": "image_url", "image_url": url}]


@pytest.mark.parametrize(
    ("value", "message", "path"),
    [
        (5, "invalid message content type: float64", ""),
        (True, "invalid message content type: bool", ""),
        ({}, "invalid message content type: map[string]interface {}", ""),
        ([5], "invalid message format", "[0]"),
        ([{"type": "video"}], "invalid message format", "[0]"),
        ([{"type": "text", "text": 5}], "invalid message format", "[0]"),
        (image({"url": "https://x/y.png"}), NO_REMOTE, "[1]"),
        (image("data:image/gif;base64,AAAA"), "invalid image input", "[1]"),
        (image("data:image/png;base64,!"), "invalid image input", "[1]"),
        (image(DATA), "invalid image input", "[1]"),
        (image({}), "invalid message format", "[1]"),
        ([{"type": "input_audio"}], "invalid input_audio format", "[0]"),
        ([{"type": "input_audio", "input_audio": {}}], "invalid input_audio format: missing data", "[0]"),
        (
            [{"type": "input_audio", "input_audio": {"data": "!"}}],
            "invalid input_audio base64 data: illegal base64 data at input byte 0",
            "[0]",
        ),
    ],
)
def test_refused_content(value: Any, message: str, path: str) -> None:
    with pytest.raises(FieldError) as caught:
        parse_content(value)
    assert (str(caught.value), caught.value.param) == (message, path)
