"""`POST /tokenize`, `/detokenize` and `/apply-template`: as in `/api/*`, but the model may be left out."""

from __future__ import annotations

from dataclasses import replace

from fastapi import APIRouter, Request, Response

from server.context import engine_of, model_or_loaded
from server.http.body import BodyRoute
from server.http.errors import HTTPError
from server.llamacpp.schemas import ServerTokenizeBody
from server.ollama.inference import check_images
from server.ollama.schemas import ERRORS, DetokenizeAnswer, DetokenizeBody, RenderAnswer, TokenizeAnswer
from server.ollama.tokenize import prompt_answer, text_answer, tokens_answer
from server.openai.chat_schemas import ChatCompletionBody

router = APIRouter(route_class=BodyRoute, responses=ERRORS)


@router.post("/tokenize", response_model=TokenizeAnswer)
async def tokenize(request: Request, body: ServerTokenizeBody) -> Response:
    """Divide a text or a conversation into tokens, by the loaded model if none is named."""
    engine = engine_of(request)
    model = model_or_loaded(engine, body.model_name)
    return tokens_answer(engine, model, body, body.chat(model))


@router.post("/detokenize", response_model=DetokenizeAnswer)
async def detokenize(request: Request, body: DetokenizeBody) -> Response:
    """Write tokens as text, by the loaded model if none is named."""
    engine = engine_of(request)
    return text_answer(engine, model_or_loaded(engine, body.model_name), body)


@router.post("/apply-template", response_model=RenderAnswer)
async def apply_template(request: Request, body: ChatCompletionBody) -> Response:
    """Show the prompt that a chat in OpenAI's format would run, by the loaded model if none is named."""
    engine = engine_of(request)
    model = model_or_loaded(engine, body.model)
    if not body.messages:
        raise HTTPError("messages is required", "messages")
    check_images(image for message in body.messages if message.content for image in message.content.images)
    return prompt_answer(engine, replace(body.request(), model=model))
