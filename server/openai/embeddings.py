"""`POST /v1/embeddings`."""

from __future__ import annotations

import asyncio
from array import array
from base64 import b64encode
from typing import Any

import msgspec
from fastapi import APIRouter, Request, Response

from engine.api import Embeddings, EmbedRequest
from modelfile.text import cut
from server.context import engine_of
from server.embedding_json import as_float32
from server.http.errors import HTTPError
from server.http.json_output import encode
from server.http.streaming import whole_answer
from server.ollama.embed import MAX_TEXTS, vectors
from server.openai.schemas import ERRORS, EmbeddingBody, EmbeddingList, Route
from server.openai.token_input import TokenInput, as_text

router = APIRouter(route_class=Route, responses=ERRORS)
_JSON = "application/json"


@router.post("/v1/embeddings", response_model=EmbeddingList)
async def embeddings(request: Request, body: EmbeddingBody) -> Response:
    """Embed texts, in OpenAI's format."""
    engine, inputs = engine_of(request), _inputs(body)
    if body.dimensions is not None and body.dimensions < 1:
        raise HTTPError("dimensions must be at least 1", "dimensions")
    in_base64 = _is_base64(body.encoding_format)

    async def work() -> bytes:
        texts = [await as_text(engine, body.model, text) for text in inputs]
        result = await vectors(engine, _request(body, texts))
        if (width := len(result.vectors[0])) < (body.dimensions or 0):
            raise HTTPError(f"dimensions must be at most {width}, which this model has", "dimensions")
        return await asyncio.to_thread(_answer, body.model, result, in_base64=in_base64)

    return whole_answer(work, _JSON)


def _inputs(body: EmbeddingBody) -> list[TokenInput]:
    """The texts, some as token ids. Raises HTTPError."""
    if not body.input:
        raise HTTPError("invalid input")
    if len(body.input) > MAX_TEXTS:
        raise HTTPError(f"too many texts: {len(body.input)}, at most {MAX_TEXTS} are accepted", "input")
    return body.input


def _request(body: EmbeddingBody, texts: list[str]) -> EmbedRequest:
    return EmbedRequest(
        model=body.model,
        texts=texts,
        truncate=body.truncate,
        dimensions=body.dimensions or 0,
        options=dict(body.options),
        keep_alive=body.keep_alive,
    )


def _is_base64(encoding: str) -> bool:
    if encoding.lower() not in ("", "float", "base64"):
        message = f"Invalid value for 'encoding_format' = {cut(encoding)}. Supported values: ['float', 'base64']."
        raise HTTPError(message, "encoding_format")
    return encoding.lower() == "base64"


def _answer(model: str, result: Embeddings, *, in_base64: bool) -> bytes:
    tokens = result.prompt_eval_count
    answer = {
        "object": "list",
        "data": [_item(index, vector, in_base64=in_base64) for index, vector in enumerate(result.vectors)],
        "model": model,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }
    return encode(answer) + b"\n"


def _item(index: int, vector: array[float], *, in_base64: bool) -> dict[str, Any]:
    embedding: str | msgspec.Raw = b64encode(vector.tobytes()).decode() if in_base64 else as_float32(vector)
    return {"object": "embedding", "embedding": embedding, "index": index}
