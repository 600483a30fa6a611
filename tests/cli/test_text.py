"""Text from elsewhere: nothing in it commands a terminal."""

import json

import pytest

from cli.text import harmless, harmless_json, one_line


@pytest.mark.parametrize(
    ("text", "lines", "line"),
    [
        ("plain é 日本 👩‍👩‍👧", "plain é 日本 👩‍👩‍👧", "plain é 日本 👩‍👩‍👧"),
        ("a\tb\r\nc\n", "a\tb\nc\n", "a\\x09b c"),
        ("\x1b]0;title\x07", "\\x1b]0;title\\x07", "\\x1b]0;title\\x07"),
        ("\x9b31m\x7f\0", "\\x9b31m\\x7f\\x00", "\\x9b31m\\x7f\\x00"),
        ("over\rwritten", "over\\x0dwritten", "over\\x0dwritten"),
        ("a\u202eb", "a\u202eb", "a\\u202eb"),
    ],
)
def test_what_is_shown(text: str, lines: str, line: str) -> None:
    assert harmless(text) == lines
    assert one_line(text) == line


def test_json_means_the_same() -> None:
    value = {"name": "a\x1b[31m\x9b\x7f\0é"}
    text = harmless_json(json.dumps(value, ensure_ascii=False))
    assert "\x9b" not in text
    assert "é" in text
    assert json.loads(text) == value
