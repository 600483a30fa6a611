"""`POST /v1/responses`."""

from __future__ import annotations

from collections.abc import AsyncIterator

from fastapi import APIRouter, Request, Response

from engine.api import ChatRequest, Delta, Event, Final
from server.context import EngineSurface, engine_of
from server.http.openapi import events
from server.http.streaming import StreamingAnswer
from server.ollama.inference import load_or_unload
from server.openai.pings import ping_for
from server.openai.responses_answers import ResponseObject, ResponsesEvent
from server.openai.responses_schemas import ResponsesBody
from server.openai.responses_writer import ResponsesWriter
from server.openai.schemas import ERRORS, Route

router = APIRouter(route_class=Route, responses=ERRORS)


@router.post("/v1/responses", response_model=ResponseObject, responses=events(ResponsesEvent))
async def responses(request: Request, body: ResponsesBody) -> Response:
    """Continue a conversation, in the format of OpenAI's Responses API; without input, load or unload the model."""
    engine, engine_request = engine_of(request), body.request()
    answer = engine.chat(engine_request) if engine_request.messages else _without_input(engine, engine_request)
    return StreamingAnswer(answer, ResponsesWriter(body, ping_for(request.headers.get("user-agent", ""))))


async def _without_input(engine: EngineSurface, request: ChatRequest) -> AsyncIterator[Event]:
    """An empty answer once the model is loaded or unloaded."""
    await load_or_unload(engine, request)
    yield Delta()
    yield Final(done_reason="stop")
