"""Text to tokens and back."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from engine.runner.vocabulary import Vocabulary


@given(st.text(alphabet=st.characters(codec="utf-8"), max_size=40))
def test_text_comes_back(vocabulary: Vocabulary, text: str) -> None:
    tokens = vocabulary.tokenize(text, add_special=False)
    assert vocabulary.detokenize(tokens) == text
    assert b"".join(map(vocabulary.piece, tokens)).decode() == text


def test_special_tokens_are_parsed_and_end_answers_without_being_text(vocabulary: Vocabulary) -> None:
    (token,) = vocabulary.tokenize("<|im_end|>", add_special=True)
    assert vocabulary.ends(token)
    assert vocabulary.piece(token) == b""
    assert vocabulary.detokenize([token]) == "<|im_end|>"
    assert vocabulary.preserved(["<|im_end|>", "two words"]) == {token: b"<|im_end|>"}


def test_ids_outside_the_vocabulary_are_left_out(vocabulary: Vocabulary) -> None:
    known = vocabulary.tokenize("Hello", add_special=False).tolist()
    assert vocabulary.detokenize([-1, *known, vocabulary.size, 2**31 - 1]) == "Hello"


def test_text_that_no_utf8_can_hold_is_replaced(vocabulary: Vocabulary) -> None:
    assert vocabulary.detokenize(vocabulary.tokenize("a\ud800b\0", add_special=False)) == "a?b\0"
