"""`POST /v1/completions`."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import replace

from fastapi import APIRouter, Request, Response

from engine.api import Delta, Event, Final
from engine.errors import ModelNotFound
from server.context import EngineSurface, engine_of
from server.http.errors import HTTPError
from server.http.openapi import events
from server.http.streaming import StreamingAnswer, closing, whole_answer
from server.ollama.inference import MAX_TOP_LOGPROBS, load_or_unload
from server.openai.choices import MAX_CHOICES, check_choices, numbered, seeded
from server.openai.completions_schemas import Completion, CompletionBody
from server.openai.completions_writer import CompletionWriter
from server.openai.pings import ping_for
from server.openai.schemas import ERRORS, Route
from server.openai.token_input import TokenInput, as_text
from server.openai.writer import JSON

router = APIRouter(route_class=Route, responses=ERRORS)


@router.post("/v1/completions", response_model=Completion, responses=events(Completion))
async def completions(request: Request, body: CompletionBody) -> Response:
    """Complete prompts, in OpenAI's format; without a prompt, load or unload the model."""
    _check(body)
    engine, prompts = engine_of(request), body.prompt or [""]
    writer = CompletionWriter(
        body.model,
        stream=body.stream,
        prompts=len(prompts),
        n=body.n,
        include_usage=body.stream_options.include_usage,
        ping=ping_for(request.headers.get("user-agent", "")),
    )
    if body.debug_render_only:

        async def render() -> bytes:
            return writer.rendered(await engine.render(body.request(prompts[0])))

        return whole_answer(render, JSON)
    if prompts == [""]:

        async def load() -> bytes:
            await load_or_unload(engine, body.request(""))
            return writer.without_text()

        return whole_answer(load, writer.media_type)
    choices = [(prompt, index) for prompt in prompts for index in range(body.n)]
    return StreamingAnswer(numbered([_answer(engine, body, *choice) for choice in choices]), writer)


def _check(body: CompletionBody) -> None:
    """Raise HTTPError for what the types of the fields do not tell."""
    if not body.model.strip():
        raise ModelNotFound(body.model)
    if body.best_of > 1:
        raise HTTPError("best_of above 1 is not supported", "best_of")
    if body.logprobs is not None and not 0 <= body.logprobs <= MAX_TOP_LOGPROBS:
        raise HTTPError(f"logprobs must be between 0 and {MAX_TOP_LOGPROBS}", "logprobs")
    check_choices(body.n)
    if len(body.prompt) * body.n > MAX_CHOICES:
        raise HTTPError(f"too many prompts: at most {MAX_CHOICES} answers are given at once", "prompt")


async def _answer(
    engine: EngineSurface, body: CompletionBody, prompt: TokenInput, index: int
) -> AsyncGenerator[Event, None]:
    """The events of answer `index` to a prompt, behind the prompt itself with `echo`."""
    engine_request = body.request(prompt)
    engine_request = replace(engine_request, options=seeded(engine_request.options, index))
    async with closing(engine.generate(engine_request)) as answer:
        if body.echo:
            text = await as_text(engine, body.model, prompt)
            scores = await anext(answer) if engine_request.prompt_logprobs else Delta()
            yield replace(scores, content=text) if isinstance(scores, Delta) else scores
        async for event in answer:
            if not body.generates_nothing:
                yield event
            elif isinstance(event, Final):
                yield replace(event, done_reason="length", eval_count=0)
