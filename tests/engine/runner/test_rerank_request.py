"""How a query and its documents become tokens, and what of them is cut."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.embed_messages import Rerank
from engine.runner.preprocess import PromptRejected
from engine.runner.rerank_request import LONG_DOCUMENT, LONG_QUERY, RerankJob, make_rerank_job
from engine.runner.vocabulary import Vocabulary
from tests.engine.berts import RERANK_TEMPLATE, bert_reranker
from tests.engine.runner.harness import load, load_context

CLS, SEP = 2, 3


def contexts(path: Path, *, ends: bool) -> Iterator[Vocabulary]:
    context = load_context(load(path=str(bert_reranker(path, ends=ends)), n_cells=256, n_parallel=1, n_batch=1))
    yield context.vocabulary
    context.close()


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vocabulary]:
    """A vocabulary with a separator, and no end token."""
    yield from contexts(tmp_path_factory.mktemp("bert") / "bert.gguf", ends=False)


@pytest.fixture(scope="module")
def roberta(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vocabulary]:
    """A vocabulary with a separator that is the end token too."""
    yield from contexts(tmp_path_factory.mktemp("roberta") / "bert.gguf", ends=True)


def job(vocabulary: Vocabulary, *documents: str, **wishes: Any) -> RerankJob:
    fields: dict[str, Any] = {"id": 1, "query": "a b", "num_ctx": 128, "truncate": True}
    return make_rerank_job(vocabulary, Rerank(**fields | {"documents": list(documents)} | wishes))


def tokens(job: RerankJob) -> list[list[int]]:
    return [job.texts[row].tokens.tolist() for row in job.rows]


def ids(vocabulary: Vocabulary, text: str) -> list[int]:
    return vocabulary.tokenize(text, add_special=False, parse_special=False).tolist()


def test_special_tokens_stand_between_and_around(bert: Vocabulary, roberta: Vocabulary) -> None:
    query, document = ids(bert, "a b"), ids(bert, "c d e")
    assert tokens(job(bert, "c d e", "")) == [[CLS, *query, SEP, *document], [CLS, *query, SEP]]
    assert tokens(job(roberta, "c d e")) == [[CLS, *query, SEP, SEP, *document, SEP]]


def test_names_of_special_tokens_in_texts_are_text(bert: Vocabulary) -> None:
    ((_, *rest),) = tokens(job(bert, "c [SEP] d", query="a [SEP] b"))
    assert rest.count(SEP) == 1


def test_a_long_document_is_cut_and_named(bert: Vocabulary, roberta: Vocabulary) -> None:
    query, document = ids(bert, "a b"), ids(bert, "c d e f g")
    cut = job(bert, "c", "c d e f g", num_ctx=7)
    assert tokens(cut)[1] == [CLS, *query, SEP, *document[:3]]
    assert cut.cut == (1,)
    assert tokens(job(roberta, "c d e f g", num_ctx=8)) == [[CLS, *query, SEP, SEP, *document[:2], SEP]]
    limited = job(bert, "c", "c d e f g", document_limit=2)
    assert tokens(limited)[1] == [CLS, *query, SEP, *document[:2]]
    assert limited.cut == (1,)
    assert not job(bert, "c d e", num_ctx=7, truncate=False).cut


@pytest.mark.parametrize("template", ["", RERANK_TEMPLATE])
def test_documents_for_which_the_context_grows_are_refused_with_the_tokens_of_the_longest(
    bert: Vocabulary, roberta: Vocabulary, template: str
) -> None:
    documents, wishes = ["c", "c d e f g", "c d"], {"grows": True, "template": template}
    for vocabulary in (bert, roberta):
        longest = max(map(len, tokens(job(vocabulary, *documents, template=template))))
        with pytest.raises(PromptRejected) as refused:
            job(vocabulary, *documents, num_ctx=longest - 1, **wishes)
        assert (refused.value.tokens, refused.value.limit) == (longest, longest - 1)
        assert not job(vocabulary, *documents, num_ctx=longest, **wishes).cut
        assert job(vocabulary, *documents, num_ctx=longest - 2, document_limit=3, **wishes).cut == (1,)
        with pytest.raises(PromptRejected) as refused:
            job(vocabulary, "c", num_ctx=2, query="a b c d e", **wishes)
        assert refused.value.tokens > 5


def test_what_may_not_be_cut_is_refused(bert: Vocabulary) -> None:
    with pytest.raises(PromptRejected) as refused:
        job(bert, "c", "c d e f g", num_ctx=7, truncate=False, first=256)
    assert str(refused.value) == f"{LONG_DOCUMENT}: documents[257]"
    for template in ("", RERANK_TEMPLATE):
        with pytest.raises(PromptRejected, match=f"^{LONG_QUERY}$"):
            job(bert, "c", num_ctx=4, template=template)


def test_a_template_is_tokenised_as_a_whole(shared_runner: Any) -> None:
    vocabulary = shared_runner.context.vocabulary
    text = RERANK_TEMPLATE.replace("{query}", "{document} what").replace("{document}<|", "{query} because<|")
    joined = job(vocabulary, "{query} because", query="{document} what", template=RERANK_TEMPLATE)
    assert tokens(joined) == [vocabulary.tokenize(text, add_special=False).tolist()]


@pytest.mark.parametrize("document", ["one two three " * 60, "日本🦙" * 60])
@pytest.mark.parametrize("wish", [{"num_ctx": 60}, {"document_limit": 9}])
def test_a_document_in_a_template_is_cut_at_a_whole_character(
    shared_runner: Any, document: str, wish: dict[str, int]
) -> None:
    vocabulary = shared_runner.context.vocabulary
    cut = job(vocabulary, "short", document, template=RERANK_TEMPLATE, **wish)
    before, after = (RERANK_TEMPLATE.replace("{query}", "a b")).split("{document}")
    text = vocabulary.detokenize(tokens(cut)[1])
    kept = text.removeprefix(before).removesuffix(after)
    assert text == before + kept + after
    assert document.startswith(kept)
    assert kept
    assert len(tokens(cut)[1]) <= 60
    assert cut.cut == (1,)


def test_equal_documents_are_computed_once(bert: Vocabulary) -> None:
    ranked = job(bert, "c", "d " * 200, "c", "d " * 200)
    assert len(ranked.texts) == 2
    assert ranked.cut == (1, 3)
    for text, score in zip(ranked.texts, (0.25, -1.5), strict=True):
        text.add(vector(score), len(text.tokens), mean=False)
    answer = ranked.answer()
    assert list(memoryview(answer.scores).cast("f")) == [0.25, -1.5, 0.25, -1.5]
    assert answer.tokens == sum(map(len, tokens(ranked)))
    assert ranked.not_finite(ranked.texts[1]) == "the score is not a number: documents[1]"


def vector(score: float) -> Any:
    return np.array([score, 9], np.float32)
