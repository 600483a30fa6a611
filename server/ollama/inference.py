"""`POST /api/generate` and `POST /api/chat`."""

from __future__ import annotations

from collections.abc import Iterable

from fastapi import APIRouter, Request, Response

from engine.errors import ModelNotFound
from server.context import engine_of, settings_of
from server.http.body import read_body
from server.http.errors import HTTPError
from server.http.streaming import Answer
from server.ollama.schemas import CHAT, GENERATE
from server.ollama.writer import ChatWriter, GenerateWriter

MAX_MESSAGES = 4096
MAX_IMAGES = 16
MAX_IMAGE_BYTES = 20 << 20
MAX_TOP_LOGPROBS = 20

router = APIRouter()


@router.post("/api/generate")
async def generate(request: Request) -> Response:
    """Complete a prompt; without a prompt, load or unload the model."""
    body = await read_body(request, GENERATE, settings_of(request).max_body)
    _check_logprobs(body.top_logprobs)
    if not body.model_name.strip():
        raise ModelNotFound(body.model_name)
    _check_images(body.images)
    writer = GenerateWriter(body.model_name)
    return Answer(engine_of(request).generate(body.request()), writer, stream=body.stream)


@router.post("/api/chat")
async def chat(request: Request) -> Response:
    """Continue a conversation; without messages, load or unload the model."""
    body = await read_body(request, CHAT, settings_of(request).max_body)
    _check_logprobs(body.top_logprobs)
    if not body.model_name.strip():
        raise HTTPError("model is required")
    if len(body.messages) > MAX_MESSAGES:
        raise HTTPError(f"too many messages: {len(body.messages)}, at most {MAX_MESSAGES} are accepted")
    _check_images(image for message in body.messages for image in message.images)
    writer = ChatWriter(body.model_name)
    return Answer(engine_of(request).chat(body.request()), writer, stream=body.stream)


def _check_logprobs(count: int) -> None:
    if not 0 <= count <= MAX_TOP_LOGPROBS:
        raise HTTPError(f"top_logprobs must be between 0 and {MAX_TOP_LOGPROBS}")


def _check_images(images: Iterable[bytes]) -> None:
    sizes = [len(image) for image in images]
    if len(sizes) > MAX_IMAGES:
        raise HTTPError(f"too many images: {len(sizes)}, at most {MAX_IMAGES} are accepted")
    if max(sizes, default=0) > MAX_IMAGE_BYTES:
        raise HTTPError(f"image too large: at most {MAX_IMAGE_BYTES} bytes are accepted")
