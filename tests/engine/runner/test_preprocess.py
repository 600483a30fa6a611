"""Prompts that are too long, and the limits of an answer."""

from __future__ import annotations

from array import array

import pytest

from engine.messages import Grammar, padded
from engine.runner.grammar import Grammars
from engine.runner.preprocess import PromptRejected, RequestRejected, make_sequence
from engine.runner.sequence import Sequence
from engine.runner.vocabulary import Vocabulary
from tests.engine.runner.harness import submit


def sequence(vocabulary: Vocabulary, n_tokens: int, n_ctx: int = 8192, **wishes: object) -> Sequence:
    tokens = array("i", [token % 2000 for token in range(n_tokens)])
    seq = make_sequence(vocabulary, submit("", **wishes), tokens, n_ctx)
    seq.sampler.close()
    return seq


@pytest.mark.parametrize(("n_ctx", "kept"), [(4096, 2050), (128, 66)])
def test_the_middle_of_a_long_prompt_is_cut_out(vocabulary: Vocabulary, n_ctx: int, kept: int) -> None:
    seq = sequence(vocabulary, 5000, num_ctx=n_ctx)
    assert seq.n_prompt == kept
    assert list(seq.tokens[:4]) == [0, 1, 2, 3]
    assert list(seq.tokens[4:]) == [token % 2000 for token in range(5000 - kept + 4, 5000)]


def test_a_prompt_that_just_fits_is_not_cut(vocabulary: Vocabulary) -> None:
    assert sequence(vocabulary, 299, num_ctx=300).n_prompt == 299
    assert sequence(vocabulary, 300, num_ctx=300).n_prompt == 152


def test_negative_num_keep_keeps_all_it_can(vocabulary: Vocabulary) -> None:
    seq = sequence(vocabulary, 400, num_ctx=300, num_keep=-1)
    assert list(seq.tokens) == list(range(299))


def test_without_shift_it_is_refused(vocabulary: Vocabulary) -> None:
    with pytest.raises(PromptRejected, match="longer than the context length currently available"):
        sequence(vocabulary, 400, num_ctx=300, shift=False)


def test_reject_names_both_sizes_and_counts_the_padding(vocabulary: Vocabulary) -> None:
    with pytest.raises(PromptRejected) as refused:
        sequence(vocabulary, 1090, num_ctx=128, overflow="reject")
    assert str(refused.value) == (
        "request (1090 tokens) exceeds the available context size (256 tokens), try increasing it"
    )
    assert (refused.value.tokens, refused.value.limit) == (1090, 255)
    assert sequence(vocabulary, 255, num_ctx=128, overflow="reject").n_prompt == 255


def test_the_loaded_context_bounds_what_a_request_may_fill(vocabulary: Vocabulary) -> None:
    assert sequence(vocabulary, 10, n_ctx=512, num_ctx=4096).limit == 512
    assert sequence(vocabulary, 600, n_ctx=512, num_ctx=4096).n_prompt == 258


@pytest.mark.parametrize(("num_predict", "most"), [(7, 7), (-1, 10_240), (0, 10_240), (99_999, 10_240)])
def test_an_answer_ends_after_ten_contexts(vocabulary: Vocabulary, num_predict: int, most: int) -> None:
    assert sequence(vocabulary, 10, num_ctx=1024, num_predict=num_predict).max_new == most


@pytest.mark.parametrize(("num_predict", "most"), [(7, 7), (-1, 1_024), (5_000, 5_000), (99_999, 10_240)])
def test_an_answer_under_a_grammar_ends_after_one_context(vocabulary: Vocabulary, num_predict: int, most: int) -> None:
    matcher = Grammars(vocabulary).matcher(Grammar('start: "a"+'))
    request = submit("", num_ctx=1024, num_predict=num_predict)
    seq = make_sequence(vocabulary, request, array("i", range(10)), 4096, matcher)
    assert seq.max_new == most
    seq.sampler.close()


@pytest.mark.parametrize("num_keep", [-(2**40), -1, 0, 4, 2**40])
@pytest.mark.parametrize("num_ctx", [-(2**40), 0, 1, 5, 300, 2**40])
def test_whatever_numbers_come_there_is_a_sound_sequence_or_a_refusal(
    vocabulary: Vocabulary, num_ctx: int, num_keep: int
) -> None:
    try:
        seq = sequence(vocabulary, 400, n_ctx=1024, num_ctx=num_ctx, num_keep=num_keep, num_predict=num_ctx)
    except (PromptRejected, RequestRejected):
        return
    assert 0 <= seq.n_keep < seq.limit
    assert 0 < len(seq.tokens) < seq.limit <= 1024


def test_an_empty_prompt_is_refused(vocabulary: Vocabulary) -> None:
    with pytest.raises(RequestRejected, match="no tokens"):
        sequence(vocabulary, 0)


def test_contexts_are_padded() -> None:
    assert [padded(n) for n in (1, 256, 257)] == [256, 256, 512]
