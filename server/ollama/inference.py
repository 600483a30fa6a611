"""`POST /api/generate` and `POST /api/chat`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from typing import Literal

from fastapi import APIRouter, Request, Response

from engine.api import AnyRequest, ChatRequest, GenerateRequest
from engine.errors import ModelNotFound
from server.context import EngineSurface, engine_of
from server.http.body import BodyRoute
from server.http.errors import HTTPError
from server.http.openapi import lines
from server.http.streaming import StreamingAnswer, closing, line_answer, whole_answer
from server.ollama.schemas import ERRORS, ChatAnswer, ChatBody, GenerateAnswer, GenerateBody
from server.ollama.writer import ChatWriter, GenerateWriter

MAX_IMAGES = 16
MAX_IMAGE_BYTES = 20 << 20  # of one image
MAX_TOP_LOGPROBS = 20

_Inference = GenerateRequest | ChatRequest
_Writer = GenerateWriter | ChatWriter

router = APIRouter(route_class=BodyRoute, responses=ERRORS)


@router.post("/api/generate", response_model=GenerateAnswer, responses=lines(GenerateAnswer))
async def generate(request: Request, body: GenerateBody) -> Response:
    """Complete a prompt; without a prompt, load or unload the model."""
    check_logprobs(body.top_logprobs)
    if not body.model_name.strip():
        raise ModelNotFound(body.model_name)
    check_images(body.images)
    engine_request, writer = body.request(), GenerateWriter(body.model_name, stream=body.stream)
    engine = engine_of(request)
    if not engine_request.prompt or body.debug_render_only:
        return _without_answer(engine, engine_request, writer, render=bool(engine_request.prompt))
    return StreamingAnswer(engine.generate(engine_request), writer)


@router.post("/api/chat", response_model=ChatAnswer, responses=lines(ChatAnswer))
async def chat(request: Request, body: ChatBody) -> Response:
    """Continue a conversation; without messages, load or unload the model."""
    check_logprobs(body.top_logprobs)
    if not body.model_name.strip():
        raise HTTPError("model is required")
    check_images(image for message in body.messages for image in message.images)
    engine_request, writer = body.request(), ChatWriter(body.model_name, stream=body.stream)
    engine = engine_of(request)
    if not engine_request.messages or body.debug_render_only:
        return _without_answer(engine, engine_request, writer, render=bool(engine_request.messages))
    return StreamingAnswer(engine.chat(engine_request), writer)


async def load_or_unload(engine: EngineSurface, request: AnyRequest) -> Literal["load", "unload"]:
    """Serve a request without a prompt: `keep_alive` 0 unloads the model, else it is loaded. Raises EngineError."""
    if request.keep_alive == 0:
        await engine.unload(request.model)
        return "unload"
    await engine.load(request)
    return "load"


def _without_answer(engine: EngineSurface, request: _Inference, writer: _Writer, *, render: bool) -> Response:
    """The response to a request that generates nothing: the prompt as rendered, or the notice of a load or unload."""

    async def work() -> bytes:
        if render:
            return writer.rendered(await engine.render(request))
        return writer.notice(await load_or_unload(engine, request))

    if request.progress and not render and request.keep_alive != 0:
        return line_answer(_load_lines(engine, request, writer))
    return whole_answer(work)


async def _load_lines(engine: EngineSurface, request: _Inference, writer: _Writer) -> AsyncIterator[bytes]:
    """The progress of a load, then its notice."""
    async with closing(engine.load_with_progress(request)) as load:
        async for progress in load:
            yield writer.progress(progress)
    yield writer.notice("load") + b"\n"


def check_logprobs(count: int) -> None:
    """Raise HTTPError for a `top_logprobs` out of range."""
    if not 0 <= count <= MAX_TOP_LOGPROBS:
        raise HTTPError(f"top_logprobs must be between 0 and {MAX_TOP_LOGPROBS}", "top_logprobs")


def check_images(images: Iterable[bytes]) -> None:
    """Raise HTTPError for too many images, or one that is too large."""
    sizes = [len(image) for image in images]
    if len(sizes) > MAX_IMAGES:
        raise HTTPError(f"too many images: {len(sizes)}, at most {MAX_IMAGES} are accepted")
    if max(sizes, default=0) > MAX_IMAGE_BYTES:
        raise HTTPError(f"image too large: at most {MAX_IMAGE_BYTES} bytes are accepted")
