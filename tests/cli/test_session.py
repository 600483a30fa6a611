"""What a conversation remembers."""

import io

from ollama import ChatResponse, Message

from cli.answer import AnswerPrinter, Look
from cli.session import Session


def answered(content: str, thinking: str = "") -> AnswerPrinter:
    answer = AnswerPrinter(io.StringIO(), Look())
    answer.follow([ChatResponse(message=Message(role="assistant", content=content, thinking=thinking))])
    return answer


def test_turns() -> None:
    session = Session(model="m")
    session.remember("Hi", answered("Hello", thinking="hm"))
    session.remember("Bye", answered("So long"))
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
    session.remember("Hi", answered(""))
    assert session.messages == []
