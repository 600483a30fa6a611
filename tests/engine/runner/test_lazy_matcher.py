"""Grammars that wake in the middle of an answer, with tokens of several bytes."""

from __future__ import annotations

from array import array
from collections.abc import Sequence

import numpy as np
import pytest

from engine.messages import Grammar, Triggers
from engine.runner.grammar import GrammarRejected, Grammars
from engine.runner.lazy_matcher import CallGrammar, LazyMatcher

WORDS = (
    "Hi",
    " <ca",
    "ll>",
    "ll>\n\n",
    "ll>{",
    "ll>x",
    "><",
    '{"a"',
    ": ",
    "1}",
    "</call>",
    "</call> Hi",
    "<|call|>",
    "<|end|>",
)
CONTROL = ("<|call|>", "<|end|>")
RULES = 'start: "<call>" "{" /[0-9]/+ "}" "</call>"'


class Words:
    """All bytes, some longer tokens, two control tokens; the last ends an answer."""

    def __init__(self) -> None:
        self.tokens = [bytes([byte]) for byte in range(256)] + [word.encode() for word in WORDS]
        self.size = len(self.tokens)

    def render(self, token: int, *, special: bool = False) -> bytes:
        return b"" if self.tokens[token].decode("latin1") in CONTROL and not special else self.tokens[token]

    def end_tokens(self) -> list[int]:
        return [self.size - 1]

    def preserved(self, texts: Sequence[str]) -> dict[int, bytes]:
        return {self.tokens.index(text.encode()): text.encode() for text in texts if text in WORDS}

    def tokenize(self, text: str, *, add_special: bool, parse_special: bool = True) -> array[int]:
        return array("i", list(text.encode()))


WORDS_OF = Words()
GRAMMARS = Grammars(WORDS_OF)


def token(text: str) -> int:
    return WORDS_OF.tokens.index(text.encode())


def asleep(*tags: str, once: bool = False) -> LazyMatcher:
    """A matcher whose grammar is still to come."""
    return LazyMatcher(Triggers(tags or ("<call>",), once=once), lambda token: WORDS_OF.render(token, special=True))


def matcher(rules: str = RULES, *tags: str, once: bool = False, marks: Sequence[str] = ()) -> LazyMatcher:
    lazy = asleep(*tags, once=once)
    lazy.set_grammar(compiled(rules, *marks))
    return lazy


def compiled(rules: str = RULES, *marks: str) -> CallGrammar:
    return GRAMMARS.call_grammar(Grammar(rules, marks, whole=False))


def write(lazy: LazyMatcher, *tokens: str) -> str:
    """What the tokens become."""
    return b"".join(WORDS_OF.tokens[lazy.accept(token(text))] for text in tokens).decode()


def allowed(lazy: LazyMatcher) -> list[str]:
    row = np.zeros(WORDS_OF.size, np.float32)
    lazy.restrict(row)
    return [WORDS_OF.tokens[n].decode("latin1") for n in np.flatnonzero(row == 0)]


def test_asleep_all_may_follow() -> None:
    lazy = matcher()
    write(lazy, "Hi", " <ca")
    assert not lazy.awake
    assert len(allowed(lazy)) == WORDS_OF.size


def test_a_trigger_in_two_tokens_that_begins_within_the_first() -> None:
    lazy = matcher()
    assert write(lazy, "Hi", " <ca", "ll>") == "Hi <call>"
    assert lazy.awake
    assert allowed(lazy) == ["{"]


def test_a_trigger_that_ends_within_a_token() -> None:
    lazy = matcher()
    assert write(lazy, " <ca", "ll>{") == " <call>{"
    assert "7" in allowed(lazy)
    assert "{" not in allowed(lazy)


@pytest.mark.parametrize("wrong", ["ll>\n\n", "ll>x"])
def test_a_token_that_goes_on_wrongly_is_shortened(wrong: str) -> None:
    lazy = matcher()
    assert write(lazy, " <ca", wrong) == " <call>"
    assert allowed(lazy) == ["{"]


def test_as_much_of_it_as_possible_stays() -> None:
    lazy = matcher('start: "<call>" "\\n" "{"')
    assert write(lazy, *"<call", "><") == "<call>"
    assert allowed(lazy) == ["\n"]


def test_text_that_does_not_suit_stays_free() -> None:
    lazy = matcher('start: "<call>" "{"', "call>x")
    assert write(lazy, *"call>x") == "call>x"
    assert not lazy.awake
    assert len(allowed(lazy)) == WORDS_OF.size


def test_it_wakes_for_each_call() -> None:
    lazy = matcher()
    for _ in range(3):
        write(lazy, "Hi", " <ca", "ll>{", "7")
        assert lazy.awake
        assert "Hi" not in allowed(lazy)
        write(lazy, "}", "</call>")
        assert not lazy.awake
        assert not lazy.finished


def test_which_tokens_belong_to_a_call() -> None:
    for early in (True, False):
        lazy, held = asleep(), []
        for text in ("Hi", " <ca", "ll>", "{", "7", "}", "</call>", "Hi"):
            if early or lazy.waits:
                lazy.set_grammar(compiled())
            write(lazy, text)
            held.append(lazy.held)
        assert held == [False, False, early, True, True, True, True, False]


def test_the_answer_ends_behind_an_only_call() -> None:
    lazy = matcher(once=True)
    write(lazy, *"<call>{7}</call")
    assert not lazy.finished
    write(lazy, ">")
    assert lazy.finished


def test_a_loop_within_a_call_cuts_the_answer_short() -> None:
    lazy = matcher()
    write(lazy, "Hi")
    assert (lazy.leave_loop(), lazy.cut_short) == (False, False)
    write(lazy, " <ca", "ll>{")
    assert lazy.awake
    assert (lazy.leave_loop(), lazy.cut_short) == (False, True)


def test_a_mark_that_is_a_control_token() -> None:
    lazy = matcher('start: mark_0 "{"', "<|call|>", marks=("<|call|>",))
    write(lazy, *"<|call|>")
    assert not lazy.awake, "it is only spelled"
    write(lazy, "Hi", "<|call|>")
    assert allowed(lazy) == ["{"]


def test_a_trigger_before_the_grammar_waits_for_it() -> None:
    lazy = asleep()
    write(lazy, "Hi", " <ca")
    assert not lazy.waits
    write(lazy, "ll>{")
    assert lazy.waits
    assert not lazy.awake
    lazy.set_grammar(compiled())
    assert (lazy.waits, lazy.awake) == (False, True)
    assert "7" in allowed(lazy)
    assert "x" not in allowed(lazy)


def test_what_came_before_the_grammar_is_not_changed() -> None:
    lazy = asleep()
    assert write(lazy, " <ca", "ll>x") == " <call>x"
    lazy.set_grammar(compiled())
    assert (lazy.waits, lazy.awake) == (False, False)
    write(lazy, *"<call>")
    assert lazy.awake, "the next call is held"


def test_a_grammar_is_compiled_once() -> None:
    grammars = Grammars(WORDS_OF)
    for number in range(20):
        for _ in range(2):
            grammars.call_grammar(Grammar(f'start: "{number}"', whole=False))
    assert len(grammars._compiled) == 8


def test_a_bad_grammar_is_refused() -> None:
    with pytest.raises(GrammarRejected):
        compiled("start: nosuch")
