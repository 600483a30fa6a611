"""Formats that write the name first."""

from __future__ import annotations

from typing import Any

import pytest

from engine.chat.output.functionary import read_function_tags, read_functionary, read_glm4
from tests.engine.chat.reading import parsed

CALL = ("add", {"a": 1})


@pytest.mark.parametrize(
    ("text", "content", "calls"),
    [
        ("all\nHello >> you", "Hello >> you", []),
        ('add\n{"a": 1}', "", [CALL]),
        ('>>>add\n{"a": 1}', "", [CALL]),
        ('all\nLet me see.\n>>>add\n{"a": 1}\n>>>now\n{}', "Let me see.", [CALL, ("now", {})]),
        ("Hello", "Hello", []),
        ('add\n{"a": ', 'add\n{"a": ', []),
        ("add\nis a verb", "add\nis a verb", []),
    ],
)
def test_functionary(text: str, content: str, calls: list[Any]) -> None:
    assert parsed(read_functionary, text) == (content, "", calls)


@pytest.mark.parametrize(
    ("text", "content", "calls"),
    [('\nadd\n{"a": 1}', "", [CALL]), ("address", "address", []), ("add\n\nup", "add\n\nup", [])],
)
def test_glm4(text: str, content: str, calls: list[Any]) -> None:
    assert parsed(read_glm4, text) == (content, "", calls)


@pytest.mark.parametrize(
    ("text", "content", "calls"),
    [
        ('Hm. <function=add>{"a": 1}</function>', "Hm.", [CALL]),
        ("<function=now></function><function=now>{}</function>", "", [("now", {}), ("now", {})]),
        ("<function=add>nothing</function>", "<function=add>nothing</function>", []),
        ('<function=add>{"a"', '<function=add>{"a"', []),
        ("<function=now", "<function=now", []),
    ],
)
def test_function_tags(text: str, content: str, calls: list[Any]) -> None:
    assert parsed(read_function_tags, text) == (content, "", calls)
