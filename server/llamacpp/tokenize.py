"""`POST /tokenize`, `/detokenize`, `/apply-template`: bodies and answers of `/api/*`; the model may be left out."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from server.context import engine_of, model_or_loaded
from server.http.body import BodyRoute
from server.ollama.schemas import (
    ERRORS,
    DetokenizeAnswer,
    DetokenizeBody,
    RenderAnswer,
    RenderBody,
    TokenizeAnswer,
    TokenizeBody,
)
from server.ollama.tokenize import prompt_answer, text_answer, tokens_answer

router = APIRouter(route_class=BodyRoute, responses=ERRORS)


@router.post("/tokenize", response_model=TokenizeAnswer)
async def tokenize(request: Request, body: TokenizeBody) -> Response:
    """Divide a text or a conversation into tokens, by the loaded model if none is named."""
    engine = engine_of(request)
    return tokens_answer(engine, model_or_loaded(engine, body.model_name), body)


@router.post("/detokenize", response_model=DetokenizeAnswer)
async def detokenize(request: Request, body: DetokenizeBody) -> Response:
    """Write tokens as text, by the loaded model if none is named."""
    engine = engine_of(request)
    return text_answer(engine, model_or_loaded(engine, body.model_name), body)


@router.post("/apply-template", response_model=RenderAnswer)
async def apply_template(request: Request, body: RenderBody) -> Response:
    """Show the prompt that a chat would run, by the loaded model if none is named."""
    engine = engine_of(request)
    return prompt_answer(engine, model_or_loaded(engine, body.model_name), body)
