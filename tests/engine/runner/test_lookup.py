"""What a text should go on with, by what it holds already."""

from __future__ import annotations

import random
from array import array

import pytest

from engine.runner.lookup import LONGEST, REBUILT, SETTLED, Lookup

WORDS = list(range(100, 100 + 3 * SETTLED))


def followed(tokens: list[int], ahead: int = 0) -> Lookup:
    """A lookup that has seen the tokens, the last `ahead` of them one by one."""
    own = array("i", tokens[: len(tokens) - ahead])
    lookup = Lookup(own)
    lookup.follow()
    for token in tokens[len(tokens) - ahead :]:
        own.append(token)
        lookup.follow()
    return lookup


@pytest.mark.parametrize("ahead", [0, 4, 6])
def test_a_text_goes_on_as_it_did_before(ahead: int) -> None:
    lookup = followed([1, 2, 3, 4, 5, 6, 7, 2, 3, 4], ahead)
    assert (lookup.length, lookup.source) == (3, 4)
    assert lookup.draft(3) == [5, 6, 7]


def test_one_token_that_stands_twice_is_no_match() -> None:
    assert followed([1, 2, 3, 4, 2], 2).length == 0


def test_the_longest_of_the_last_matches_is_taken() -> None:
    lookup = followed([1, 2, 3, 4, 50, 9, 3, 4, 60, 1, 2, 3, 4])
    assert lookup.draft(1) == [50]
    assert followed([7, 3, 4, 50, 9, 3, 4, 60, 1, 3, 4]).draft(1) == [60], "of equal ones the last"


def test_a_text_that_goes_round_goes_on_round() -> None:
    assert followed([9, 1, 2, 3, 1, 2, 3], 3).draft(8) == [1, 2, 3, 1, 2, 3, 1, 2]


def test_nothing_is_drafted_of_a_picture() -> None:
    assert followed([1, 2, 3, -7, -8, 4, 1, 2]).draft(4) == [3]


def test_the_length_of_a_match_is_bounded() -> None:
    text = list(range(1, 2 * LONGEST))
    assert followed(text + text).length == LONGEST
    assert followed(text + text, len(text)).length == LONGEST


def test_what_was_foretold_is_compared_with_what_came() -> None:
    tokens = array("i", [1, 2, 3, 4, 5, 1, 2])
    lookup = Lookup(tokens)
    lookup.follow()
    tokens.extend([3, 4, 9])
    assert lookup.follow() == [(2, True), (3, True), (4, False)]
    assert lookup.length == 0
    assert lookup.follow() == []


def test_behind_a_replaced_token_the_text_may_go_on() -> None:
    replaced = [*WORDS[:SETTLED], 1]
    lookup = followed(WORDS + replaced, len(replaced))
    assert lookup.length == 1
    assert lookup.draft(2) == WORDS[SETTLED + 1 : SETTLED + 3]
    short = [*WORDS[: SETTLED - 1], 1]
    assert followed(WORDS + short, len(short)).length == 0


def test_after_a_cut_it_begins_anew() -> None:
    tokens = array("i", [1, 2, 3, 4, 5, 6])
    lookup = Lookup(tokens)
    lookup.follow()
    del tokens[1:5]
    lookup.forget()
    tokens.extend([1, 6])
    lookup.follow()
    assert lookup.draft(1) == [1]


@pytest.mark.parametrize("seed", range(20))
def test_an_index_made_at_once_is_the_one_that_grows(seed: int) -> None:
    dice = random.Random(seed)
    tokens = [dice.randrange(4) for _ in range(2 * REBUILT)]
    at_once, grown = followed(tokens), followed(tokens, len(tokens))
    for _ in range(REBUILT):
        token = dice.randrange(4)
        for lookup in (at_once, grown):
            lookup._tokens.append(token)
            lookup.follow()
    assert at_once._latest == grown._latest
    assert at_once._before == grown._before
