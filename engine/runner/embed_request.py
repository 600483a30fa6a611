"""Texts that are to become vectors, and the requests that they came in."""

from __future__ import annotations

from array import array
from dataclasses import dataclass

import numpy as np

from engine.messages import Embed, Embedded
from engine.runner.embed_context import Vector
from engine.runner.preprocess import PromptRejected
from engine.runner.vocabulary import Vocabulary

TOO_LONG = "the input length exceeds the context length"
NO_ROOM = "input after truncation exceeds maximum context length"


@dataclass(slots=True, eq=False)
class EmbedText:
    """One text. The first `n_done` of its tokens were computed and came to `vector`, a sum where the mean is wanted.

    `slot` is its sequence id while it has one. `alone`: it must not share a pass, as one that it shared was spoilt.
    """

    tokens: array[int]
    n_done: int = 0
    slot: int = -1
    vector: Vector | None = None
    alone: bool = False

    @property
    def n_left(self) -> int:
        """Tokens that are still to be computed."""
        return len(self.tokens) - self.n_done

    @property
    def sound(self) -> bool:
        """Whether what it came to so far are numbers."""
        return self.vector is not None and bool(np.isfinite(self.vector).all())

    def add(self, vector: Vector, count: int, *, mean: bool) -> None:
        """The next `count` tokens have come to this."""
        if mean:
            weighted = vector * np.float32(count / len(self.tokens))
            self.vector = weighted if self.vector is None else self.vector + weighted
        else:
            self.vector = vector
        self.n_done += count

    def restart(self) -> None:
        """As if nothing had been computed."""
        self.n_done, self.vector = 0, None


@dataclass(slots=True, eq=False)
class EmbedJob:
    """A request for vectors. Owned by the loop thread once it is made."""

    request: Embed
    texts: list[EmbedText]

    @property
    def id(self) -> int:
        """The request's number."""
        return self.request.id

    @property
    def pending(self) -> list[EmbedText]:
        """The texts that have no vector yet."""
        return [text for text in self.texts if text.n_left]

    def answer(self) -> Embedded:
        """All vectors, shaped as the request wants them; every text must have its own."""
        vectors = np.stack([text.vector for text in self.texts if text.vector is not None])
        if 0 < self.request.dimensions < vectors.shape[1]:
            vectors = vectors[:, : self.request.dimensions]
        if self.request.normalize:
            vectors = _normalized(vectors)
        return Embedded(self.id, vectors.astype(np.float32).tobytes(), sum(len(p.tokens) for p in self.texts))

    def named(self, error: str, text: EmbedText) -> str:
        """The text of an error, with the place of its text in the request."""
        return _named(error, self.request, self.texts.index(text))


def make_job(vocabulary: Vocabulary, request: Embed) -> EmbedJob:
    """Turn texts into tokens and cut what is too long. Raises PromptRejected. Safe from any thread."""
    texts = []
    for index, text in enumerate(request.texts):
        try:
            texts.append(EmbedText(_tokens(vocabulary, text, request)))
        except PromptRejected as error:
            raise PromptRejected(_named(str(error), request, index)) from None
    return EmbedJob(request, texts)


def _tokens(vocabulary: Vocabulary, text: str, request: Embed) -> array[int]:
    tokens = vocabulary.tokenize(text, add_special=True)
    if len(tokens) > request.num_ctx:
        if not request.truncate:
            raise PromptRejected(TOO_LONG)
        return _cut(vocabulary, tokens, request.num_ctx)
    return tokens or array("i", [vocabulary.end])


def _cut(vocabulary: Vocabulary, tokens: array[int], limit: int) -> array[int]:
    """The first tokens of a text, between those that the tokenizer puts around every text."""
    around = len(vocabulary.tokenize("", add_special=True))
    if around >= limit:
        raise PromptRejected(NO_ROOM)
    behind = around - vocabulary.adds_bos
    return tokens[: limit - behind] + tokens[len(tokens) - behind :]


def _named(error: str, request: Embed, index: int) -> str:
    return error if request.first is None else f"{error}: input[{request.first + index}]"


def _normalized(vectors: Vector) -> Vector:
    """Each vector with length one; nothing but zeros stays as it is."""
    lengths = np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    shaped: Vector = (vectors / np.where(lengths > 0, lengths, 1)).astype(np.float32)
    return shaped
