"""`POST /api/tokenize`, `/api/detokenize` and `/api/render`; llama-server's paths for them have the same answers."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from fastapi import APIRouter, Request, Response

from engine.api import ChatRequest, GenerateRequest, Tokenized
from server.context import EngineSurface, engine_of
from server.http.body import BodyRoute
from server.http.errors import HTTPError
from server.http.json_output import encode
from server.http.streaming import whole_answer
from server.ollama.inference import check_images
from server.ollama.schemas import (
    ERRORS,
    DetokenizeAnswer,
    DetokenizeBody,
    Named,
    RenderAnswer,
    RenderBody,
    TextBody,
    TokenizeAnswer,
    TokenizeBody,
)

router = APIRouter(route_class=BodyRoute, responses=ERRORS)


@router.post("/api/tokenize", response_model=TokenizeAnswer)
async def tokenize(request: Request, body: TokenizeBody) -> Response:
    """Divide a text or a conversation into tokens."""
    model = required_model(body)
    return tokens_answer(engine_of(request), model, body, body.chat(model))


@router.post("/api/detokenize", response_model=DetokenizeAnswer)
async def detokenize(request: Request, body: DetokenizeBody) -> Response:
    """Write tokens as text."""
    return text_answer(engine_of(request), required_model(body), body)


@router.post("/api/render", response_model=RenderAnswer)
async def render(request: Request, body: RenderBody) -> Response:
    """Show the prompt that a chat or a completion would run; nothing is generated."""
    model = required_model(body)
    if not (body.messages or body.prompt):
        raise HTTPError("messages or prompt is required", "messages")
    check_images([*body.images, *(image for message in body.messages for image in message.images)])
    return prompt_answer(engine_of(request), body.any_request(model))


def required_model(body: Named) -> str:
    """The model's name as it was sent. Raises HTTPError without one."""
    if not body.model_name.strip():
        raise HTTPError("model is required", "model")
    return body.model_name


def tokens_answer(engine: EngineSurface, model: str, body: TextBody, chat: ChatRequest | None) -> Response:
    """The answer with the tokens of the body's text, or of a conversation. Raises HTTPError unless there is just one.

    A conversation has the tokenizer's own tokens too, unless the body says otherwise.
    """
    started = time.perf_counter_ns()
    text = body.plain_text
    if text is not None and chat is not None:
        raise HTTPError("content and messages cannot be used together", "messages")
    if chat is not None and not chat.messages:
        raise HTTPError("messages is required", "messages")

    async def work() -> bytes:
        prompt = text
        if chat is not None:
            prompt = (await engine.render(chat)).prompt
        if prompt is None:
            raise HTTPError("content is required", "content")
        tokenized = await engine.tokenize(body.request(model, prompt, add_special=chat is not None))
        return await asyncio.to_thread(_tokens, model, body, tokenized, started)

    return whole_answer(work)


def text_answer(engine: EngineSurface, model: str, body: DetokenizeBody) -> Response:
    """The answer with the text. Raises HTTPError without tokens."""
    started = time.perf_counter_ns()
    if body.tokens is None:
        raise HTTPError("tokens is required", "tokens")
    detokenize_request = body.request(model, body.tokens)

    async def work() -> bytes:
        detokenized = await engine.detokenize(detokenize_request)
        texts = dict.fromkeys(("content", "text", "prompt"), detokenized.text)
        return encode({"model": model, **texts, **_durations(started, detokenized.load_duration)})

    return whole_answer(work)


def prompt_answer(engine: EngineSurface, render_request: GenerateRequest | ChatRequest) -> Response:
    """The answer with the prompt."""

    async def work() -> bytes:
        rendered = await engine.render(render_request)
        counts = {"image_count": rendered.image_count, "token_count": rendered.token_count}
        return encode({"model": render_request.model, "prompt": rendered.prompt, **counts})

    return whole_answer(work)


def _tokens(model: str, body: TextBody, tokenized: Tokenized, started: int) -> bytes:
    tokens, pieces = tokenized.tokens, tokenized.pieces
    named = zip(tokens, pieces, strict=False)
    listed = [{"id": token, "piece": _piece(data)} for token, data in named] if body.with_pieces else tokens
    texts = {"token_strs": [data.decode("utf-8", "replace") for data in pieces]} if body.return_token_strs else {}
    counts = {"count": len(tokens), "max_model_len": tokenized.context_length}
    durations = _durations(started, tokenized.load_duration)
    return encode({"model": model, "tokens": listed, **counts, **texts, **durations})


def _piece(data: bytes) -> str | list[int]:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return list(data)


def _durations(started: int, load_duration: int) -> dict[str, Any]:
    return {"total_duration": time.perf_counter_ns() - started, "load_duration": load_duration}
