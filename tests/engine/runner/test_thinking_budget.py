"""Reasoning is ended by its closing tag once its tokens are used up. Here a token is a character."""

from array import array

import pytest

from engine.messages import ThinkingLimit
from engine.runner.thinking_budget import ThinkingBudget


def write(limit: ThinkingLimit, text: str) -> str:
    """What becomes of an answer that would be this text: forced tokens come before its next ones."""
    budget = ThinkingBudget(limit, lambda token: chr(token).encode(), lambda text: array("i", map(ord, text)))
    written, rest = "", list(text)
    while rest or budget.forced is not None:
        forced = budget.forced
        written += rest.pop(0) if forced is None else chr(forced)
        budget.accept(ord(written[-1]))
    return written


def limit(tokens: int, *, begun: bool = True) -> ThinkingLimit:
    return ThinkingLimit(tokens, "<t>", "</t>", begun)


@pytest.mark.parametrize(
    ("answer", "written"),
    [
        ("abcdef", "abcd\n</t>\n\nef"),
        ("abc\ndef", "abc\n</t>\n\ndef"),
        ("ab</t>cdefgh", "ab</t>cdefgh"),
        ("abc</t>defgh", "abc</t>defgh"),
        ("abc</defgh", "abc</d\n</t>\n\nefgh"),
        ("abc", "abc"),
    ],
)
def test_an_open_block(answer: str, written: str) -> None:
    assert write(limit(4), answer) == written


@pytest.mark.parametrize(
    ("answer", "written"),
    [
        ("<t>abcdef", "<t>abcd\n</t>\n\nef"),
        ("\n<t>abcdef", "\n<t>abcd\n</t>\n\nef"),
        ("<t>ab</t>cdefgh", "<t>ab</t>cdefgh"),
        ("abcdef<t>ghijkl", "abcdef<t>ghijkl"),
        ("<table>", "<table>"),
    ],
)
def test_a_block_that_the_answer_opens(answer: str, written: str) -> None:
    assert write(limit(4, begun=False), answer) == written


def test_no_reasoning_at_all() -> None:
    assert write(limit(0), "abc") == "</t>\n\nabc"
    assert write(limit(0, begun=False), "<t>abc") == "<t></t>\n\nabc"


@pytest.mark.parametrize(("tokens", "banned"), [(1, ord(">")), (9, None)])
def test_reasoning_that_was_cut_is_not_closed_again(tokens: int, banned: int | None) -> None:
    """Here `>` is the token of the whole closing tag."""
    budget = ThinkingBudget(
        limit(tokens),
        lambda token: chr(token).replace(">", "</t>").encode(),
        lambda text: array("i", map(ord, text.replace("</t>", ">"))),
    )
    for character in "ab>c":
        budget.accept(ord(character) if budget.forced is None else budget.forced)
    while budget.forced is not None:
        assert budget.banned is None
        budget.accept(budget.forced)
    assert budget.banned == banned
