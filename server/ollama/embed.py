"""`POST /api/embed` and `/api/embeddings`."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from fastapi import APIRouter, Request, Response

from engine.api import Embeddings, EmbedRequest
from engine.errors import EngineError, InvalidRequest, ModelNotFound
from engine.names import local_name
from modelfile.text import cut, quote
from registry.names import ModelName
from server.context import EngineSurface, engine_of, find_model
from server.embedding_json import as_float32, as_float64
from server.http.body import BodyRoute
from server.http.errors import HTTPError, NotFound
from server.http.json_output import encode
from server.http.streaming import whole_answer
from server.ollama.inference import load_or_unload
from server.ollama.schemas import ERRORS, EmbedAnswer, EmbedBody, EmbeddingsAnswer, EmbeddingsBody

MAX_TEXTS = 16_384

router = APIRouter(route_class=BodyRoute, responses=ERRORS)


@router.post("/api/embed", response_model=EmbedAnswer)
async def embed(request: Request, body: EmbedBody) -> Response:
    """Embed texts; without texts, load or unload the model."""
    started = time.perf_counter_ns()
    if not body.model_name.strip():
        raise ModelNotFound(body.model_name)
    ModelName.parse(local_name(body.model_name))
    embed_request = _embed_request(body, texts_of(body.input))

    async def work() -> bytes:
        result = await vectors(engine_of(request), embed_request)
        return await asyncio.to_thread(_answer, embed_request.model, result, started)

    return whole_answer(work)


@router.post("/api/embeddings", response_model=EmbeddingsAnswer)
async def embeddings(request: Request, body: EmbeddingsBody) -> Response:
    """Embed one text; without a text, load or unload the model."""
    if not body.model_name.strip():
        raise HTTPError("model is required")
    engine = engine_of(request)
    await _require_spelling(request, body.model_name)

    async def work() -> bytes:
        try:
            result = await vectors(engine, _legacy_request(body))
        except InvalidRequest as error:  # a text that is too long is a 500 here
            raise EngineError(str(error)) from None
        return encode({"embedding": as_float64(result.vectors[0]) if result.vectors else []})

    return whole_answer(work)


def texts_of(value: Any) -> list[str]:
    """The texts of `input`: a text or a list of texts; null and "" mean none. Raises HTTPError."""
    texts = value if isinstance(value, list) else [value] if value not in (None, "") else []
    if not all(isinstance(text, str) for text in texts):
        raise HTTPError("invalid input type")
    if len(texts) > MAX_TEXTS:
        raise HTTPError(f"too many texts: {len(texts)}, at most {MAX_TEXTS} are accepted")
    return texts


def _embed_request(body: EmbedBody, texts: list[str]) -> EmbedRequest:
    return EmbedRequest(
        model=body.model_name,
        texts=texts,
        truncate=body.truncate,
        dimensions=body.dimensions,
        options=dict(body.options),
        keep_alive=body.keep_alive,
    )


def _legacy_request(body: EmbeddingsBody) -> EmbedRequest:
    return EmbedRequest(
        model=body.model_name,
        texts=[body.prompt] if body.prompt else [],
        truncate=False,
        normalize=False,
        options=dict(body.options),
        keep_alive=body.keep_alive,
    )


async def vectors(engine: EngineSurface, embed_request: EmbedRequest) -> Embeddings:
    """Embed the texts; without texts, load or unload the model.

    Raises EngineError; NotFound with this endpoint's text for an unknown model.
    """
    try:
        if embed_request.texts:
            return await engine.embed(embed_request)
        await load_or_unload(engine, embed_request)
        return Embeddings()
    except ModelNotFound:
        raise _not_found(embed_request.model) from None


def _answer(model: str, result: Embeddings, started: int) -> bytes:
    if not result.vectors:
        return encode({"model": model, "embeddings": []})
    return encode(
        {
            "model": model,
            "embeddings": [as_float32(vector) for vector in result.vectors],
            "total_duration": time.perf_counter_ns() - started,
            "load_duration": result.load_duration,
            "prompt_eval_count": result.prompt_eval_count,
        }
    )


async def _require_spelling(request: Request, name: str) -> None:
    """Raise NotFound unless the name has the case of the stored one. All other endpoints ignore case."""
    try:
        model = await find_model(request, name)
    except ModelNotFound:
        raise _not_found(name) from None
    if model.name != ModelName.parse(local_name(name)):
        raise _not_found(name)


def _not_found(name: str) -> NotFound:
    return NotFound(f"model {quote(cut(name))} not found, try pulling it first")
