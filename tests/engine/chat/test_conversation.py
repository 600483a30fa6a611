"""Which messages a model gets, and in which order."""

import pytest

from engine.api import Message
from engine.chat.conversation import conversation, drop_oldest, drops_old_thinking, strip_old_thinking

S, U, A = (Message(role, role[0]) for role in ("system", "user", "assistant"))


def test_the_systems_prompt_comes_first() -> None:
    assert conversation("S", [A], [U]) == [Message("system", "S"), A, U]
    assert conversation("", [A], [U]) == [A, U]


def test_a_system_message_of_the_request_wins() -> None:
    own = Message("system", "mine")
    assert conversation("S", [A], [own, U]) == [A, own, U]


def test_shortening_keeps_system_messages_and_the_last() -> None:
    ends = [drop_oldest([S, U, A, U], start) for start in range(4)]
    assert ends == [[S, U, A, U], [S, U, A, U], [S, A, U], [S, U]]


@pytest.mark.parametrize(
    ("family", "name", "forgets"), [("qwen3", "x", True), ("llama", "deepseek-r1", True), ("llama", "llama3", False)]
)
def test_who_forgets(family: str, name: str, forgets: bool) -> None:
    assert drops_old_thinking(family, name) is forgets


def test_old_thoughts_are_dropped_newer_ones_stay() -> None:
    thinking = Message("assistant", "<think>\nhm\n</think>\n\nYes")
    assert strip_old_thinking([U, thinking, U, thinking]) == [U, Message("assistant", "Yes"), U, thinking]
    plain = Message("assistant", "a </think> b")
    assert strip_old_thinking([U, plain, U]) == [U, plain, U]
