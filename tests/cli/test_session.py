"""What a conversation remembers."""

import io
from pathlib import Path
from typing import Any

import pytest

from cli.answer import AnswerPrinter, Look
from cli.reply import Reply
from cli.session import Session


def said(text: str) -> dict[str, Any]:
    return Session(model="m").message(text)


def answered(content: str, thinking: str = "") -> AnswerPrinter:
    answer = AnswerPrinter(io.StringIO(), Look())
    answer.follow([Reply({"message": {"role": "assistant", "content": content, "thinking": thinking}})])
    return answer


def test_turns() -> None:
    session = Session(model="m")
    session.remember(said("Hi"), answered("Hello", thinking="hm"))
    session.remember(said("Bye"), answered("So long"))
    assert session.messages == [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello", "thinking": "hm"},
        {"role": "user", "content": "Bye"},
        {"role": "assistant", "content": "So long"},
    ]
    session.forget()
    assert session.messages == []


def test_a_turn_that_never_got_an_answer_is_not_one() -> None:
    session = Session(model="m")
    session.remember(said("Hi"), answered(""))
    assert session.messages == []


@pytest.mark.parametrize("capabilities", [("completion", "vision"), ("completion", "audio"), ("completion",)])
def test_files_go_along_to_models_that_take_them(tmp_path: Path, capabilities: tuple[str, ...]) -> None:
    picture = tmp_path / "cat.png"
    picture.write_bytes(b"picture")
    session = Session(model="m")
    session.adapt_to(capabilities)
    text = f"What is this? {picture}"
    if len(capabilities) == 1:
        assert session.message(text) == {"role": "user", "content": text}
    else:
        assert session.message(text) == {"role": "user", "content": "What is this?", "images": [b"picture"]}
