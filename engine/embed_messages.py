"""The messages about texts that are embedded or ranked; `engine.messages` has all others, and how they are sent."""

from __future__ import annotations

import msgspec

from engine.client import NOBODY, Client


class EmbeddingSizes(msgspec.Struct, array_like=True, frozen=True):
    """How texts are embedded. `longest` is the most tokens of a text, `batch` about the tokens of one forward pass.

    `mean`: the file names no pooling, so a vector is the mean over the tokens.
    """

    longest: int = 512
    batch: int = 256
    mean: bool = True


class Embed(msgspec.Struct, array_like=True, frozen=True, tag=7):
    """Ask for the vectors of texts of at most `num_ctx` tokens. Answered by `Embedded` or `Failed`.

    A longer text is cut if `truncate` says so and refused otherwise. 0 < `dimensions` < width keeps that many numbers
    of each vector; `normalize` makes their lengths 1. `first` is the index of the first of these texts in the HTTP
    request, for errors; None if that has only one. `num_thread` and `trace_id` are as in `messages.Submit`. With
    `grows` longer texts are refused in any case, with the tokens of the longest.
    """

    id: int
    texts: list[str]
    num_ctx: int
    truncate: bool
    dimensions: int
    normalize: bool
    first: int | None
    num_thread: int = 0
    trace_id: str = ""
    grows: bool = False
    client: Client = NOBODY


class Embedded(msgspec.Struct, array_like=True, frozen=True, tag=43):
    """Answer to `Embed`: float32 vectors in native byte order, one after the other, in the order of the texts.

    `tokens` is the number of tokens that were evaluated.
    """

    id: int
    vectors: bytes
    tokens: int


class Rerank(msgspec.Struct, array_like=True, frozen=True, tag=8):
    """Ask how well documents answer a query. Answered by `Reranked` or `Failed`.

    Query and document together have at most `num_ctx` tokens, a document has at most `document_limit` (0: any number).
    A longer document is cut if `truncate` says so and refused otherwise. `template` joins the two, "" stands for the
    model's special tokens. `first` is the index of the first of these documents in the HTTP request, for errors.
    `num_thread` and `trace_id` are as in `messages.Submit`, `grows` as in `Embed`.
    """

    id: int
    query: str
    documents: list[str]
    num_ctx: int
    truncate: bool
    document_limit: int = 0
    template: str = ""
    first: int = 0
    num_thread: int = 0
    trace_id: str = ""
    grows: bool = False
    client: Client = NOBODY


class Reranked(msgspec.Struct, array_like=True, frozen=True, tag=46):
    """Answer to `Rerank`: a float32 score for each document, in native byte order and in the order of the documents.

    `tokens` is the number of tokens that were evaluated, `cut` the places of the documents that were cut.
    """

    id: int
    scores: bytes
    tokens: int
    cut: tuple[int, ...] = ()
