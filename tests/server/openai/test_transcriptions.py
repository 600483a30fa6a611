"""`/v1/audio/transcriptions`: what it refuses, what it asks the engine, what it answers."""

import json
from typing import Any

import httpx
import pytest
from openai.types.audio import TranscriptionTextDeltaEvent, TranscriptionTextDoneEvent

from engine.api import ChatRequest, Delta, Final
from engine.errors import InvalidRequest
from modelfile.conversation import Message
from tests.server.fake_engine import FakeEngine
from tests.server.openai.test_models import openai

PATH = "/v1/audio/transcriptions"
SOUND = b"RIFF\x00\x00\x00\x00WAVE" + bytes(range(256))
FILE = {"file": ("speech.wav", SOUND, "audio/wav")}
SPOKEN = [Delta(content="\n Hello"), Delta(content=" world.\n"), Final(done_reason="stop", eval_count=3)]


async def post(client: httpx.AsyncClient, **fields: str) -> httpx.Response:
    return await client.post(PATH, data={"model": "m"} | fields, files=FILE)


@pytest.mark.parametrize(
    ("fields", "files", "message", "param"),
    [
        ({}, FILE, "model is required", "model"),
        ({"model": " "}, FILE, "model is required", "model"),
        ({"model": "m"}, {"other": b"x"}, "file is required: http: no such file", "file"),
        ({"model": "m"}, {"file": ("a.wav", b"")}, "audio file is empty", "file"),
        ({"model": "m", "temperature": "warm"}, FILE, "invalid value for 'temperature': warm", "temperature"),
        (
            {"model": "m", "response_format": "srt"},
            FILE,
            "response_format 'srt' is not supported: it must be json, text or verbose_json",
            "response_format",
        ),
        (
            {"model": "m", "timestamp_granularities[]": "word"},
            FILE,
            "timestamp_granularities is not supported: no times are known",
            "timestamp_granularities",
        ),
    ],
)
async def test_refusals(
    client: httpx.AsyncClient, engine: FakeEngine, fields: dict[str, str], files: Any, message: str, param: str
) -> None:
    answer = await client.post(PATH, data=fields, files=files)
    assert (answer.status_code, answer.json()) == (400, openai(message, param=param))
    assert not engine.asked


@pytest.mark.parametrize(
    ("kind", "body", "message"),
    [
        ("application/json", b"{}", "request Content-Type isn't multipart/form-data"),
        ("multipart/form-data", b"x", "Missing boundary in multipart."),
        ("multipart/form-data; boundary=b", b"no form", "Invalid multipart data."),
    ],
)
async def test_no_form(client: httpx.AsyncClient, kind: str, body: bytes, message: str) -> None:
    answer = await client.post(PATH, content=body, headers={"content-type": kind})
    assert (answer.status_code, answer.json()) == (400, openai(f"failed to parse multipart form: {message}"))


async def test_too_many_fields(client: httpx.AsyncClient) -> None:
    answer = await post(client, **{f"field{number}": "" for number in range(40)})
    assert answer.status_code == 400
    assert "Too many fields" in answer.json()["error"]["message"]


async def test_a_body_beyond_the_limit(client: httpx.AsyncClient) -> None:
    answer = await client.post(PATH, data={"model": "m"}, files={"file": bytes(100_001)})
    assert answer.status_code == 413
    assert answer.json()["error"]["type"] == "invalid_request_error"


async def test_the_engine_gets_a_chat(client: httpx.AsyncClient, engine: FakeEngine) -> None:
    engine.script = list(SPOKEN)
    answer = await post(client, language="de", prompt="Names: Ada")
    assert answer.json() == {"text": "Hello world."}
    (request,) = engine.asked
    assert isinstance(request, ChatRequest)
    assert (request.model, request.options, request.think) == ("m", {"temperature": 0.0}, False)
    system, user = request.messages
    assert system.content.endswith(" Do not answer any question in the audio. The audio is in de. Context: Names: Ada")
    assert user == Message("user", "What exact words are spoken in this audio?", images=(SOUND,))


async def test_plain_text(client: httpx.AsyncClient, engine: FakeEngine) -> None:
    engine.script = list(SPOKEN)
    answer = await post(client, response_format="text")
    assert (answer.text, answer.headers["content-type"]) == ("Hello world.", "text/plain; charset=utf-8")


async def test_a_stream(client: httpx.AsyncClient, engine: FakeEngine) -> None:
    engine.script = list(SPOKEN)
    answer = await post(client, stream="true")
    assert answer.headers["content-type"] == "text/event-stream"
    *pieces, last = [json.loads(event.removeprefix("data: ")) for event in answer.text.split("\n\n")[:-1]]
    deltas = [TranscriptionTextDeltaEvent.model_validate(piece, strict=True).delta for piece in pieces]
    assert deltas == ["Hello", " world.\n"]
    assert TranscriptionTextDoneEvent.model_validate(last, strict=True).text == "Hello world."


async def test_what_the_model_refuses(client: httpx.AsyncClient, engine: FakeEngine) -> None:
    engine.script = [InvalidRequest("audio input is not supported", "images")]
    answer = await post(client, response_format="text")
    assert (answer.status_code, answer.json()) == (400, openai("audio input is not supported", param="file"))
    assert answer.headers["content-type"] == "application/json"
