"""The rerank routes: Pronk's own, Jina's and Cohere's; and those of llama-server, which speaks TEI's dialect too."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from functools import partial

from fastapi import APIRouter, Request, Response

from engine.api import Ranked
from server.context import EngineSurface, engine_of, model_or_loaded
from server.http.body import BodyRoute
from server.http.streaming import whole_answer
from server.ollama.schemas import ERRORS
from server.ollama.tokenize import required_model
from server.openai import schemas as openai
from server.rerank.answers import jina, own, tei
from server.rerank.schemas import COHERE_ERRORS, JinaAnswer, RerankAnswer, RerankBody, TEIResult

Write = Callable[[RerankBody, str, Ranked], bytes]

router = APIRouter(route_class=BodyRoute, responses=ERRORS)
v1_router = APIRouter(route_class=openai.Route, responses=openai.ERRORS)
v2_router = APIRouter(route_class=BodyRoute, responses=COHERE_ERRORS)


@router.post("/api/rerank", response_model=RerankAnswer)
async def rerank(request: Request, body: RerankBody) -> Response:
    """Rank documents by how well they answer a query."""
    write = partial(own, started=time.perf_counter_ns())
    return _answer(engine_of(request), required_model(body), body, write)


@router.post("/rerank", response_model=JinaAnswer | list[TEIResult])
@router.post("/reranking", response_model=JinaAnswer | list[TEIResult])
@v1_router.post("/v1/rerank", response_model=JinaAnswer | list[TEIResult])
@v1_router.post("/v1/reranking", response_model=JinaAnswer | list[TEIResult])
async def rerank_for_any_client(request: Request, body: RerankBody) -> Response:
    """Rank documents in Jina's or TEI's format, by the loaded model if none is named."""
    engine = engine_of(request)
    return _answer(engine, model_or_loaded(engine, body.model_name), body, jina if body.texts is None else tei)


@v2_router.post("/v2/rerank", response_model=JinaAnswer)
async def rerank_for_cohere(request: Request, body: RerankBody) -> Response:
    """Rank documents in Cohere's format."""
    return _answer(engine_of(request), required_model(body), body, jina)


def _answer(engine: EngineSurface, model: str, body: RerankBody, write: Write) -> Response:
    rerank_request = body.request(model)

    async def work() -> bytes:
        ranked = await engine.rerank(rerank_request)
        return await asyncio.to_thread(write, body, model, ranked)

    return whole_answer(work)
