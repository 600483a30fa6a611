"""`POST /v1/chat/completions`."""

from __future__ import annotations

from dataclasses import replace

from fastapi import APIRouter, Request, Response

from server.context import engine_of
from server.http.errors import HTTPError
from server.http.openapi import events
from server.http.streaming import StreamingAnswer, whole_answer
from server.ollama.inference import check_images, check_logprobs
from server.openai.chat_schemas import ChatCompletion, ChatCompletionBody, ChatCompletionChunk
from server.openai.chat_writer import ChatWriter
from server.openai.choices import check_choices, numbered, seeded
from server.openai.pings import ping_for
from server.openai.schemas import ERRORS, Route
from server.openai.writer import JSON

router = APIRouter(route_class=Route, responses=ERRORS)


@router.post("/v1/chat/completions", response_model=ChatCompletion, responses=events(ChatCompletionChunk))
async def chat_completions(request: Request, body: ChatCompletionBody) -> Response:
    """Continue a conversation, in OpenAI's format."""
    _check(body)
    engine, engine_request = engine_of(request), body.request()
    writer = ChatWriter(
        body.model,
        stream=body.stream,
        n=body.n,
        include_usage=body.stream_options.include_usage,
        functions=body.has_functions,
        count_reasoning=body.asks_for_reasoning,
        ping=ping_for(request.headers.get("user-agent", "")),
    )
    if body.debug_render_only:

        async def prompt() -> bytes:
            return writer.rendered(await engine.render(engine_request))

        return whole_answer(prompt, JSON)
    requests = [replace(engine_request, options=seeded(engine_request.options, index)) for index in range(body.n)]
    return StreamingAnswer(numbered([engine.chat(one) for one in requests]), writer)


def _check(body: ChatCompletionBody) -> None:
    """Raise HTTPError for what the types of the fields do not tell."""
    if not body.messages:
        raise HTTPError("[] is too short - 'messages'", "messages")
    check_logprobs(body.top_logprobs)
    if not body.model.strip():
        raise HTTPError("model is required", "model")
    check_choices(body.n)
    if body.max_completion_tokens == 0:
        raise HTTPError("max_completion_tokens must be at least 1", "max_completion_tokens")
    check_images(image for message in body.messages if message.content for image in message.content.images)
