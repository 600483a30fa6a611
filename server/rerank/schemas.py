"""Requests and answers of the rerank routes. Jina's, Cohere's and TEI's requests are one, their answers are two."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, PlainValidator

from engine.api import RerankRequest
from server.http.body import Body
from server.http.errors import HTTPError
from server.http.openapi import AnswerObject, Responses, errors
from server.ollama.fields import Int, KeepAlive, Options
from server.ollama.schemas import Named

MAX_DOCUMENTS = 16_384


class RerankDocument(Body):
    """A document as an object. For the OpenAPI document only; `_parse_documents` reads it."""

    text: str = ""


def _parse_documents(value: Any) -> list[str]:
    """The texts of documents, which are texts or objects with a text. Raises ValueError."""
    if not isinstance(value, list):
        raise ValueError("documents must be a list")
    if len(value) > MAX_DOCUMENTS:
        raise ValueError(f"too many documents: {len(value)}, at most {MAX_DOCUMENTS} are accepted")
    texts: list[str] = []
    for place, item in enumerate(value):
        text = item.get("text") if isinstance(item, dict) else item
        if not isinstance(text, str):
            raise ValueError(f'documents[{place}] must be a text or an object with "text"')
        texts.append(text)
    return texts


Documents = Annotated[list[str], PlainValidator(_parse_documents, json_schema_input_type=list[str | RerankDocument])]


class RerankBody(Named):
    """A query and documents. TEI's name for them is `texts`, and asks for its shape of answers."""

    go: ClassVar[str] = "api.RerankRequest"

    query: str | None = None
    documents: Documents | None = None
    texts: Documents | None = None
    top_n: Int | None = None
    return_documents: bool = False
    return_text: bool = False
    max_tokens_per_doc: Int | None = None
    truncate: bool = True
    raw_scores: bool = False
    keep_alive: KeepAlive = None
    options: Options = Field(default_factory=dict)

    @property
    def all_documents(self) -> list[str]:
        """The documents, under either name."""
        return self.documents or self.texts or []

    def name_of(self, field: str) -> str:
        """This body's name for a field of the engine's requests: both the query and a document can be too long."""
        return "" if field == "prompt" else field

    def request(self, model: str) -> RerankRequest:
        """The request for the engine. Raises HTTPError for what is missing or out of range."""
        if self.query is None:
            raise HTTPError("query is required", "query")
        if self.documents is not None and self.texts is not None:
            raise HTTPError("documents and texts cannot be used together", "texts")
        if not self.all_documents:
            raise HTTPError("documents must be a list of at least one text", "documents")
        for name, number in (("top_n", self.top_n), ("max_tokens_per_doc", self.max_tokens_per_doc)):
            if number is not None and number < 1:
                raise HTTPError(f"{name} must be at least 1", name)
        return RerankRequest(
            model=model,
            options=dict(self.options),
            keep_alive=self.keep_alive,
            query=self.query,
            documents=self.all_documents,
            truncate=self.truncate,
            document_limit=self.max_tokens_per_doc or 0,
        )


class RerankText(AnswerObject):
    """A document."""

    text: str


class RerankResult(AnswerObject):
    """The score of a document, by its place in the request; `truncated`: the document was cut."""

    index: int
    relevance_score: float
    document: RerankText = Field(default_factory=lambda: RerankText(text=""))
    truncated: Literal[True] = True


class RerankUsage(AnswerObject):
    """Tokens of all pairs of query and document."""

    prompt_tokens: int
    total_tokens: int


class _Ranking(AnswerObject):
    model: str
    object: Literal["list"]
    results: list[RerankResult]
    usage: RerankUsage


class RerankAnswer(_Ranking):
    """The documents, the best first. Durations are in nanoseconds."""

    total_duration: int
    load_duration: int
    prompt_eval_count: int


class CohereVersion(AnswerObject):
    """The version of Cohere's API."""

    version: str


class CohereUnits(AnswerObject):
    """What Cohere would charge for."""

    search_units: int


class CohereTokens(AnswerObject):
    """Token counts."""

    input_tokens: int
    output_tokens: int


class CohereMeta(AnswerObject):
    """What Cohere's clients read beside the results."""

    api_version: CohereVersion
    billed_units: CohereUnits
    tokens: CohereTokens
    warnings: list[str] = Field(default_factory=list)


class JinaAnswer(_Ranking):
    """The documents, the best first, for clients of Jina and of Cohere."""

    id: str
    meta: CohereMeta


class TEIResult(AnswerObject):
    """The score of a document, by its place in the request."""

    index: int
    score: float
    text: str = ""


class CohereError(AnswerObject):
    """An error in Cohere's shape."""

    message: str


COHERE_ERRORS: Responses = errors(CohereError)
