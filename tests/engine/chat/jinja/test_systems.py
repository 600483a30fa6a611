"""Where the text of system messages goes."""

from __future__ import annotations

from engine.api import Message
from engine.chat.jinja.adapt import one_system, without_system

S, T, U, A = Message("system", "S"), Message("system", "T"), Message("user", "U"), Message("assistant", "A")


def said(messages: list[Message]) -> list[tuple[str, str]]:
    return [(message.role, message.content) for message in messages]


def test_without() -> None:
    assert said(without_system([S, T, U, A])) == [("user", "S\nT\nU"), ("assistant", "A")]
    assert said(without_system([U, A, S])) == [("user", "U"), ("assistant", "A"), ("user", "S")]


def test_one() -> None:
    assert said(one_system([S, T, U, A, S, U])) == [
        ("system", "S\n\nT"),
        ("user", "U"),
        ("assistant", "A"),
        ("user", "S\nU"),
    ]
    assert said(one_system([U, A, S, U])) == [("user", "U"), ("assistant", "A"), ("user", "S\nU")]
