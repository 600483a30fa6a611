"""`POST /v1/messages` and `POST /v1/messages/count_tokens`."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from engine.api import ChatRequest
from server.anthropic.answers import MessageAnswer, TokenCount
from server.anthropic.conversation import caches, chat_request
from server.anthropic.schemas import ERRORS, MessagesBody, PromptBody, Route
from server.anthropic.writer import AnswerStyle, MessageStreamWriter, WholeMessageWriter, estimated_tokens
from server.context import engine_of, find_model
from server.http.errors import HTTPError
from server.http.json_output import encode
from server.http.openapi import content
from server.http.streaming import StreamingAnswer, whole_answer
from server.ollama.inference import check_images

router = APIRouter(route_class=Route, responses=ERRORS)
_JSON = "application/json"


@router.post(
    "/v1/messages",
    response_model=MessageAnswer,
    responses=content("text/event-stream", {"type": "string", "description": "The events of Anthropic's API"}),
)
async def messages(request: Request, body: MessagesBody) -> Response:
    """Continue a conversation, in Anthropic's format."""
    _require_model(body)
    if body.max_tokens <= 0:
        raise HTTPError("max_tokens is required and must be positive", "max_tokens")
    chat = await _checked_request(request, body)
    style = AnswerStyle(
        model=body.model,
        input_estimate=estimated_tokens(chat),
        server_tools=frozenset(tool.name for tool in body.tools if tool.runs_here),
        stop_sequences=body.stop_sequences or (),
        caches=caches(body),
        shows_thinking=body.thinking.display != "omitted",
    )
    writer = MessageStreamWriter(style) if body.stream else WholeMessageWriter(style)
    return StreamingAnswer(engine_of(request).chat(chat), writer)


@router.post("/v1/messages/count_tokens", response_model=TokenCount)
async def count_tokens(request: Request, body: PromptBody) -> Response:
    """Count the tokens of the prompt that the same request to `/v1/messages` would run."""
    _require_model(body)
    chat = await _checked_request(request, body)

    async def work() -> bytes:
        return encode({"input_tokens": (await engine_of(request).render(chat)).token_count})

    return whole_answer(work, _JSON)


def _require_model(body: PromptBody) -> None:
    if not body.model.strip():
        raise HTTPError("model is required", "model")


async def _checked_request(request: Request, body: PromptBody) -> ChatRequest:
    """The request for the engine. Reasoning is not asked of a model that cannot. Raises HTTPError and EngineError."""
    if not body.messages:
        raise HTTPError("messages is required", "messages")
    chat = chat_request(body)
    if not chat.messages:
        raise HTTPError("messages has no content that a model can read", "messages")
    check_images(image for message in chat.messages for image in message.images)
    if chat.think and "thinking" not in (await find_model(request, body.model)).capabilities:
        chat.think = None
    return chat
