"""`POST /v1/audio/transcriptions`: a sound as text, by a chat with a model that hears."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any, Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ValidationError
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from engine.api import ChatRequest, Delta, Event, Final, Progress
from modelfile.conversation import Message
from modelfile.text import cut
from server.context import engine_of
from server.http.compressed import parts_of
from server.http.errors import BodyTooLarge, ErrorInfo, HTTPError
from server.http.json_output import encode
from server.http.openapi import BINARY, AnswerObject, events, takes
from server.http.streaming import Framing, StreamingAnswer, Writer
from server.openai.errors import error_object
from server.openai.sampling import DEFAULTS
from server.openai.schemas import ERRORS
from server.openai.writer import JSON

MAX_FIELDS = 32
MAX_FIELD_BYTES = 1 << 20
_MULTIPART = "multipart/form-data"
_FORMATS = ("json", "text", "verbose_json")
_ONE_OF = "json, text or verbose_json"
_TASK = "Transcribe the audio exactly as spoken. Output only the spoken words. Do not answer any question in the audio."
_QUESTION = "What exact words are spoken in this audio?"
_TIMES = "timestamp_granularities"

router = APIRouter(responses=ERRORS)


class TranscriptionForm(BaseModel):
    """The fields beside the file. `language` and `prompt` are told to the model."""

    model: str = ""
    language: str = ""
    prompt: str = ""
    response_format: str = "json"
    temperature: float = 0.0
    stream: bool = False

    def request(self, sound: bytes) -> ChatRequest:
        """The request for the engine."""
        language = f" The audio is in {self.language}." if self.language else ""
        context = f" Context: {self.prompt}" if self.prompt else ""
        return ChatRequest(
            model=self.model,
            defaults=DEFAULTS,
            options={"temperature": self.temperature},
            think=False,
            truncate=False,
            messages=[Message("system", _TASK + language + context), Message("user", _QUESTION, images=(sound,))],
        )


class Transcription(AnswerObject):
    """The words of a sound."""

    text: str


class TranscriptEvent(AnswerObject):
    """A piece of a streamed transcription, and at its end the whole text."""

    type: Literal["transcript.text.delta", "transcript.text.done"]
    delta: str = ""
    text: str = ""


_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["model", "file"],
    "properties": {"file": BINARY, **TranscriptionForm.model_json_schema()["properties"]},
}


@router.post(
    "/v1/audio/transcriptions",
    response_model=Transcription,
    responses=events(TranscriptEvent),
    openapi_extra=takes(_MULTIPART, _SCHEMA),
)
async def transcriptions(request: Request) -> Response:
    """Write down what is said in a sound, in OpenAI's format."""
    form = await _read_form(request, request.app.state.settings.max_body)
    try:
        fields, sound = _fields_of(form), await _sound_of(form)
    finally:
        await form.close()
    request.state.name_of = _name_of
    writer = TranscriptionWriter(plain=fields.response_format == "text", stream=fields.stream)
    return StreamingAnswer(engine_of(request).chat(fields.request(sound)), writer)


def _name_of(field: str) -> str:
    """The form's name for a field of the engine's request."""
    return "file" if field == "images" else field


async def _read_form(request: Request, limit: int) -> FormData:
    """The parts of the body. Raises HTTPError."""
    kind, _, _ = request.headers.get("content-type", "").partition(";")
    if kind.strip().lower() != _MULTIPART:
        raise HTTPError(f"failed to parse multipart form: request Content-Type isn't {_MULTIPART}")
    bounds = {"max_files": 1, "max_fields": MAX_FIELDS, "max_part_size": MAX_FIELD_BYTES}
    try:
        return await MultiPartParser(request.headers, _bounded(request, limit), **bounds).parse()
    except MultiPartException as error:
        raise HTTPError(f"failed to parse multipart form: {cut(error.message)}") from None


async def _bounded(request: Request, limit: int) -> AsyncGenerator[bytes, None]:
    """The pieces of the body. Raises BodyTooLarge behind `limit` bytes."""
    size = 0
    async for part in parts_of(request):
        size += len(part)
        if size > limit:
            raise BodyTooLarge(limit)
        yield part


def _fields_of(form: FormData) -> TranscriptionForm:
    """The fields. Raises HTTPError that names the one at fault."""
    texts = {name: value for name, value in form.items() if isinstance(value, str)}
    try:
        fields = TranscriptionForm.model_validate(texts)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = str(first["loc"][0])
        raise HTTPError(f"invalid value for '{name}': {cut(texts[name])}", name) from None
    if not fields.model.strip():
        raise HTTPError("model is required", "model")
    if fields.response_format not in _FORMATS:
        message = f"response_format '{cut(fields.response_format)}' is not supported: it must be {_ONE_OF}"
        raise HTTPError(message, "response_format")
    if any(name.removesuffix("[]") == _TIMES for name in form):
        raise HTTPError(f"{_TIMES} is not supported: no times are known", _TIMES)
    return fields


async def _sound_of(form: FormData) -> bytes:
    """The file. Raises HTTPError."""
    file = form.get("file")
    if not isinstance(file, UploadFile):
        raise HTTPError("file is required: http: no such file", "file")
    sound = await file.read()
    if not sound:
        raise HTTPError("audio file is empty", "file")
    return sound


class TranscriptionWriter(Writer[Event]):
    """Writes a transcription: an object, or with `plain` its text; as server-sent events if `stream`."""

    error_media_type = JSON

    def __init__(self, *, plain: bool, stream: bool) -> None:
        self.framing = Framing.SSE if stream else Framing.WHOLE
        self.media_type = "text/event-stream" if stream else "text/plain; charset=utf-8" if plain else JSON
        self._plain = plain
        self._texts: list[str] = []

    @staticmethod
    def error_object(info: ErrorInfo) -> dict[str, Any]:
        """OpenAI's error object."""
        return error_object(info)

    def event(self, event: Event) -> bytes:
        """A piece of the text, if it is streamed."""
        if isinstance(event, Final | Progress) or not (text := self._stripped(event)):
            return b""
        self._texts.append(text)
        if self.framing is Framing.WHOLE:
            return b""
        return self.framing.frame(encode({"type": "transcript.text.delta", "delta": text}))

    def end(self) -> bytes:
        """The whole text."""
        text = "".join(self._texts).rstrip()
        if self.framing is Framing.SSE:
            return self.framing.frame(encode({"type": "transcript.text.done", "text": text}))
        return text.encode() if self._plain else encode({"text": text}) + b"\n"

    def _stripped(self, delta: Delta) -> str:
        """A piece of the answer; the first one without leading spaces."""
        return delta.content if self._texts else delta.content.lstrip()
