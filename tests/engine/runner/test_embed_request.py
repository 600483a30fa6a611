"""Embedding requests: texts that are too long, and vectors as the request wants them."""

from __future__ import annotations

from array import array
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.embed_messages import Embed
from engine.runner.embed_request import NO_ROOM, TOO_LONG, EmbedJob, EmbedText, make_job
from engine.runner.preprocess import PromptRejected
from engine.runner.vocabulary import Vocabulary
from tests.engine.berts import tiny_bert
from tests.engine.runner.harness import load, load_context

CLS, SEP = 2, 3


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory: pytest.TempPathFactory) -> Vocabulary:
    """That of a model which puts a token before and behind every text; the model stays loaded."""
    path = tiny_bert(tmp_path_factory.mktemp("bert") / "bert.gguf")
    return load_context(load(path=str(path), n_cells=256, n_parallel=1, n_batch=1)).vocabulary


def embed(*texts: str, **wishes: Any) -> Embed:
    fields: dict[str, Any] = {"id": 1, "num_ctx": 128, "truncate": True, "dimensions": 0, "normalize": True}
    return Embed(**({"texts": list(texts), "first": None} | fields | wishes))


def tokens(job: EmbedJob) -> list[list[int]]:
    return [text.tokens.tolist() for text in job.texts]


def test_texts_become_tokens_between_special_ones(vocabulary: Vocabulary) -> None:
    (some, none) = tokens(make_job(vocabulary, embed("a b c", "")))
    assert (some[0], some[-1], len(some)) == (CLS, SEP, 5)
    assert none == [CLS, SEP]


def test_a_long_text_keeps_its_beginning_and_what_stands_around_it(vocabulary: Vocabulary) -> None:
    (whole,) = tokens(make_job(vocabulary, embed("a b c d e f g h")))
    (cut,) = tokens(make_job(vocabulary, embed("a b c d e f g h", num_ctx=6)))
    assert cut == [*whole[:5], SEP]
    assert tokens(make_job(vocabulary, embed("a b c d e f g h", num_ctx=10))) == [whole]


def test_a_text_that_may_not_be_cut_is_refused(vocabulary: Vocabulary) -> None:
    with pytest.raises(PromptRejected, match=f"^{TOO_LONG}$") as refused:
        make_job(vocabulary, embed("a b c d e", num_ctx=6, truncate=False))
    assert refused.value.limit == 6
    assert make_job(vocabulary, embed("a b c d", num_ctx=6, truncate=False)).pending


@pytest.mark.parametrize("truncate", [True, False])
def test_texts_for_which_the_context_grows_are_refused_with_the_tokens_of_the_longest(
    vocabulary: Vocabulary, truncate: bool
) -> None:
    texts = ["a b c d e", "a", "a b c d e f g"]
    with pytest.raises(PromptRejected) as refused:
        make_job(vocabulary, embed(*texts, num_ctx=6, truncate=truncate, grows=True))
    assert (refused.value.tokens, refused.value.limit) == (9, 6)
    assert len(make_job(vocabulary, embed(*texts, num_ctx=9, truncate=truncate, grows=True)).pending) == 3


@pytest.mark.parametrize("num_ctx", [0, 1, 2])
def test_nothing_fits_beside_the_special_tokens(vocabulary: Vocabulary, num_ctx: int) -> None:
    with pytest.raises(PromptRejected, match=f"^{NO_ROOM}$"):
        make_job(vocabulary, embed("a", num_ctx=num_ctx))
    with pytest.raises(PromptRejected, match=f"^{TOO_LONG}$"):
        make_job(vocabulary, embed("a", num_ctx=num_ctx, truncate=False))


def test_an_error_names_the_text_by_its_place_in_the_whole_request(vocabulary: Vocabulary) -> None:
    with pytest.raises(PromptRejected) as refused:
        make_job(vocabulary, embed("a", "a b c d e", num_ctx=6, truncate=False, first=256))
    assert str(refused.value) == f"{TOO_LONG}: input[257]"


def test_where_nothing_stands_around_a_text_an_empty_one_is_its_end(shared_runner: Any) -> None:
    vocabulary = shared_runner.context.vocabulary
    assert tokens(make_job(vocabulary, embed(""))) == [[vocabulary.end]]
    assert len(tokens(make_job(vocabulary, embed("one two three four five six", num_ctx=4)))[0]) == 4


def test_no_more_is_tokenised_than_could_be_kept(vocabulary: Vocabulary) -> None:
    (ids,) = tokens(make_job(vocabulary, embed("a " * 4_000_000)))
    assert len(ids) == 128


VECTORS = st.lists(st.lists(st.floats(-8, 8, width=32), min_size=3, max_size=3), min_size=1, max_size=6)


@given(rows=VECTORS, counts=st.lists(st.integers(1, 50), min_size=6, max_size=6))
def test_the_mean_of_a_text_is_that_of_its_parts(rows: list[list[float]], counts: list[int]) -> None:
    parts = list(zip(rows, counts, strict=False))
    text = EmbedText(array("i", range(sum(count for _, count in parts))))
    for row, count in parts:
        text.add(np.array(row, np.float32), count, mean=True)
    expected = np.average([row for row, _ in parts], axis=0, weights=[count for _, count in parts])
    assert not text.n_left
    assert text.vector == pytest.approx(expected, abs=1e-5)


def test_without_a_mean_the_last_part_counts() -> None:
    text = EmbedText(array("i", range(5)))
    text.add(np.array([1, 2], np.float32), 3, mean=False)
    text.add(np.array([3, 4], np.float32), 2, mean=False)
    assert text.vector is not None
    assert text.vector.tolist() == [3, 4]


def answer(vectors: list[list[float]], **wishes: Any) -> list[list[float]]:
    job = EmbedJob(embed(*["a"] * len(vectors), **wishes), [EmbedText(array("i", [7])) for _ in vectors])
    for text, vector in zip(job.texts, vectors, strict=True):
        text.add(np.array(vector, np.float32), 1, mean=True)
    reply = job.answer()
    assert reply.tokens == len(vectors)
    rows: list[list[float]] = np.frombuffer(reply.vectors, np.float32).reshape(len(vectors), -1).tolist()
    return rows


def test_vectors_have_length_one_if_wanted_and_nothing_stays_nothing() -> None:
    assert answer([[3, 4], [0, 0]]) == [pytest.approx([0.6, 0.8]), [0, 0]]
    assert answer([[3e30, 4e30]]) == [pytest.approx([0.6, 0.8])]
    assert answer([[3, 4]], normalize=False) == [[3, 4]]


@pytest.mark.parametrize(
    ("dimensions", "expected"), [(2, [0.6, 0.8]), (3, [0.3, 0.4, 0.75**0.5]), (0, 3), (-1, 3), (4, 3)]
)
def test_vectors_are_cut_and_made_longer_again(dimensions: int, expected: list[float] | int) -> None:
    whole = [0.3, 0.4, 0.75**0.5]
    expected = whole if isinstance(expected, int) else expected
    assert answer([whole], dimensions=dimensions) == [pytest.approx(expected, abs=1e-6)]
