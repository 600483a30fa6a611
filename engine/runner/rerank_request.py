"""Rerank requests: a query joined with each document, and the answer made of the classifier's outputs."""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from engine.embed_messages import Rerank, Reranked
from engine.runner.embed_request import EmbedText, PoolJob
from engine.runner.llamacpp import C
from engine.runner.preprocess import PromptRejected
from engine.runner.vocabulary import Vocabulary

QUERY, DOCUMENT = "{query}", "{document}"
NOT_FINITE = "the score is not a number"
LONG_QUERY = "the query leaves no room for a document in the context"
LONG_DOCUMENT = "query and document exceed the context length"


@dataclass(slots=True, eq=False)
class RerankJob(PoolJob):
    """A request for scores. Equal documents share a text: `rows` are the places of the documents' texts.

    `cut` are the places of the documents that were cut.
    """

    ranks: ClassVar[bool] = True
    request: Rerank
    rows: list[int]
    cut: tuple[int, ...]

    def answer(self) -> Reranked:
        """The reply with all scores: the classifier's first output."""
        scores = np.array([text.vector[0] for text in self.texts if text.vector is not None], np.float32)
        tokens = sum(len(self.texts[row].tokens) for row in self.rows)
        return Reranked(self.id, scores[self.rows].tobytes(), tokens, self.cut)

    def not_finite(self, text: EmbedText) -> str:
        """An error that names the document's index in the request."""
        return _located(NOT_FINITE, self.request, self.rows.index(self.texts.index(text)))


def make_rerank_job(vocabulary: Vocabulary, request: Rerank) -> RerankJob:
    """Join the query with each document and tokenise. Raises PromptRejected. Safe from any thread."""
    pairs = _TemplatePairs(vocabulary, request) if request.template else _TokenPairs(vocabulary, request)
    longest = max(map(pairs.length, set(request.documents)), default=0) if request.grows else 0
    if longest > request.num_ctx:
        raise PromptRejected(LONG_DOCUMENT, longest, request.num_ctx)
    if pairs.room < 1:
        raise PromptRejected(LONG_QUERY)
    joined: dict[str, tuple[int, array[int], bool]] = {}
    for index, document in enumerate(request.documents):
        if document not in joined:
            tokens, whole = pairs.join(document)
            if not (whole or request.truncate):
                raise PromptRejected(_located(LONG_DOCUMENT, request, index))
            joined[document] = len(joined), tokens, whole
    texts = [EmbedText(tokens) for _, tokens, _ in joined.values()]
    rows = [joined[document][0] for document in request.documents]
    cut = tuple(index for index, document in enumerate(request.documents) if not joined[document][2])
    return RerankJob(request, texts, rows, cut)


class _Pairs:
    """Joins query and document. `_around`: tokens of a pair whose document is empty."""

    _around: int

    def __init__(self, vocabulary: Vocabulary, request: Rerank) -> None:
        self._vocabulary = vocabulary
        self._request = request
        self._known: dict[tuple[str, bool], array[int]] = {}

    @property
    def room(self) -> int:
        """Tokens that a document may have."""
        room = self._request.num_ctx - self._around
        return min(room, self._request.document_limit or room)

    def _tokens(self, text: str, *, parse_special: bool = False) -> array[int]:
        """A text's own tokens, computed once: what is measured is joined afterwards."""
        key = text, parse_special
        if key not in self._known:
            self._known[key] = self._vocabulary.tokenize(text, add_special=False, parse_special=parse_special)
        return self._known[key]


class _TokenPairs(_Pairs):
    """Joins query and document by special tokens, those that llama.cpp's server takes."""

    def __init__(self, vocabulary: Vocabulary, request: Rerank) -> None:
        super().__init__(vocabulary, request)
        handle = vocabulary.handle
        separator = C.llama_vocab_sep(handle)
        end = C.llama_vocab_eos(handle)
        ends = [end if end >= 0 else separator] if C.llama_vocab_get_add_eos(handle) else []
        query = self._tokens(request.query)
        self._before = array("i", [C.llama_vocab_bos(handle)] if vocabulary.adds_bos else []) + query
        self._before.extend(ends + ([separator] if C.llama_vocab_get_add_sep(handle) else []))
        self._after = array("i", ends)
        self._around = len(self._before) + len(self._after)

    def length(self, document: str) -> int:
        """How many tokens a document has with the query, if the context is no limit."""
        tokens = len(self._tokens(document))
        return self._around + min(tokens, self._request.document_limit or tokens)

    def join(self, document: str) -> tuple[array[int], bool]:
        """The tokens, and whether the document is whole."""
        tokens = self._tokens(document)
        return self._before + tokens[: self.room] + self._after, len(tokens) <= self.room


class _TemplatePairs(_Pairs):
    """Joins query and document by a template, which is tokenised as a whole."""

    def __init__(self, vocabulary: Vocabulary, request: Rerank) -> None:
        super().__init__(vocabulary, request)
        self._parts = [part.replace(QUERY, request.query) for part in request.template.split(DOCUMENT)]
        self._around = len(self._joined(""))

    def length(self, document: str) -> int:
        """How many tokens a document has with the query, if the context is no limit."""
        tokens = len(self._tokens(document))
        if 0 < self._request.document_limit < tokens:
            return self._around + self._request.document_limit
        return max(self._around + tokens, len(self._joined(document)))

    def join(self, document: str) -> tuple[array[int], bool]:
        """The tokens, and whether the document is whole."""
        tokens = self._tokens(document)
        room, whole = self.room, True
        while True:
            if len(tokens) > room:
                whole = False
                kept = b"".join(self._vocabulary.render(token, special=True) for token in tokens[:room])
                document = kept.decode("utf-8", "ignore")
            joined = self._joined(document)
            # Tokens at the seams may differ from those of the document alone.
            if len(joined) <= self._request.num_ctx:
                return joined, whole
            room = min(room, len(tokens)) - (len(joined) - self._request.num_ctx)
            if room < 1:
                raise PromptRejected(LONG_QUERY)

    def _joined(self, document: str) -> array[int]:
        return self._tokens(document.join(self._parts), parse_special=True)


def _located(error: str, request: Rerank, index: int) -> str:
    return f"{error}: documents[{request.first + index}]"
