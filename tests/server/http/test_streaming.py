"""Streams: when they start, how they fail, and what a client that leaves sets free."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import httpx
import pytest
from fastapi import APIRouter, Response

from engine import errors
from engine.api import Delta, Event, Final, GenerateRequest, Rendered
from server.app import create_app
from server.http.errors import ErrorInfo
from server.http.streaming import Framing, StreamingAnswer, Writer
from server.ollama.writer import ProgressWriter
from server.routers import ROUTERS
from server.settings import Settings
from tests.server.conftest import Live
from tests.server.fake_engine import FakeEngine, Step

ASK = {"model": "t", "prompt": "hi"}
TEXT: list[Step] = [Delta("Hel"), Delta("lo"), Final(done_reason="stop", eval_count=2)]


async def test_stream(client: httpx.AsyncClient, engine: FakeEngine) -> None:
    engine.script = TEXT
    answer = await client.post("/api/generate", json=ASK)
    assert answer.headers["content-type"] == "application/x-ndjson"
    assert answer.text.endswith("\n")
    lines = [json.loads(line) for line in answer.text.splitlines()]
    assert [line["response"] for line in lines] == ["Hel", "lo", ""]
    assert [line["done"] for line in lines] == [False, False, True]
    assert engine.abandoned == 0


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/responses", "/v1/messages"])
async def test_server_sent_events_are_not_cached(client: httpx.AsyncClient, engine: FakeEngine, path: str) -> None:
    engine.script = TEXT
    body = {"model": "t", "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}], "input": "Hi"}
    streamed = await client.post(path, json=body | {"stream": True})
    assert streamed.headers["content-type"] == "text/event-stream"
    assert streamed.headers["cache-control"] == "no-cache"
    whole = await client.post(path, json=body)
    assert whole.headers["content-type"] == "application/json"
    assert "cache-control" not in whole.headers


async def test_whole(client: httpx.AsyncClient, engine: FakeEngine) -> None:
    engine.script = TEXT
    answer = await client.post("/api/chat", json={"model": "t", "messages": [{"role": "user"}], "stream": False})
    assert answer.headers["content-type"] == "application/json; charset=utf-8"
    assert answer.json()["message"] == {"role": "assistant", "content": "Hello"}
    assert not answer.text.endswith("\n")


async def test_a_stream_may_be_only_its_end(client: httpx.AsyncClient, engine: FakeEngine) -> None:
    engine.script = [Final(done_reason="stop")]
    answer = await client.post("/api/generate", json=ASK)
    assert answer.headers["content-type"] == "application/x-ndjson"
    assert json.loads(answer.text)["done"] is True


@pytest.mark.parametrize("asked", [{"prompt": ""}, {"prompt": "", "keep_alive": 0}, {"_debug_render_only": True}])
async def test_notices_ignore_stream(client: httpx.AsyncClient, engine: FakeEngine, asked: dict[str, object]) -> None:
    engine.script = [Rendered("p")]
    answer = await client.post("/api/generate", json=ASK | asked)
    assert answer.headers["content-type"] == "application/json; charset=utf-8"
    assert not answer.text.endswith("\n")


FAILURES = [
    (errors.InvalidRequest("no"), 400, "no"),
    (errors.ContextExceeded("too long"), 400, "too long"),
    (errors.ModelNotFound("zz"), 404, "model 'zz' not found"),
    (errors.CapabilityMissing("x does not support tools"), 400, "x does not support tools"),
    (errors.ServerBusy(), 503, "server busy, please try again.  maximum pending requests exceeded"),
    (errors.LoadFailed("no memory"), 500, "no memory"),
    (errors.RunnerDied(), 500, str(errors.RunnerDied())),
    (errors.RunnerError("x"), 500, "an error was encountered while running the model: x"),
    (errors.EngineStopped(), 503, "server is shutting down"),
]


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(("error", "status", "message"), FAILURES, ids=lambda value: type(value).__name__)
async def test_a_failure_before_the_first_event_has_its_status(
    client: httpx.AsyncClient, engine: FakeEngine, error: Exception, status: int, message: str, stream: bool
) -> None:
    engine.script = [error]
    answer = await client.post("/api/generate", json={**ASK, "stream": stream})
    assert (answer.status_code, answer.json()) == (status, {"error": message})
    assert answer.headers["content-type"].startswith("application/json")
    assert ("retry-after" in answer.headers) == (status == 503)


async def test_a_failure_on_the_way_is_the_last_line(
    client: httpx.AsyncClient, engine: FakeEngine, caplog: pytest.LogCaptureFixture
) -> None:
    engine.script = [Delta("Hel"), errors.RunnerDied("it died\nof SIGSEGV")]
    answer = await client.post("/api/generate", json=ASK)
    assert answer.status_code == 200
    lines = [json.loads(line) for line in answer.text.splitlines()]
    assert lines[0]["response"] == "Hel"
    assert lines[1:] == [{"error": str(errors.RunnerDied("it died\nof SIGSEGV"))}]
    [logged] = [record.getMessage() for record in caplog.records if "broke off" in record.getMessage()]
    assert logged == f"answer broke off: {errors.RunnerDied()}: it died of SIGSEGV"


async def test_a_failure_on_the_way_of_a_whole_answer(client: httpx.AsyncClient, engine: FakeEngine) -> None:
    engine.script = [Delta("Hel"), errors.RunnerDied()]
    answer = await client.post("/api/generate", json={**ASK, "stream": False})
    assert (answer.status_code, answer.json()) == (500, {"error": str(errors.RunnerDied())})


async def test_a_defect_tells_nothing(client: httpx.AsyncClient, engine: FakeEngine) -> None:
    engine.script = [RuntimeError("/secret/path")]
    answer = await client.post("/api/generate", json=ASK)
    assert (answer.status_code, answer.json()) == (500, {"error": "internal server error"})


@pytest.mark.parametrize(("first", "status"), [([], 500), ([Delta("x")], 200)])
async def test_a_client_can_go_on_after_a_defect(
    live: Live, engine: FakeEngine, first: list[Step], status: int
) -> None:
    engine.script = [*first, RuntimeError("x")]
    async with httpx.AsyncClient(base_url=live.url, trust_env=False) as client:
        for _ in range(10):
            assert (await client.post("/api/generate", json=ASK)).status_code == status


async def test_a_defect_on_the_way_is_a_line_and_in_the_log(
    live: Live, engine: FakeEngine, caplog: pytest.LogCaptureFixture
) -> None:
    engine.script = [Delta("Hel"), RuntimeError("/secret/path")]
    with caplog.at_level(logging.ERROR):
        async with httpx.AsyncClient(trust_env=False) as client:
            answer = await client.post(f"{live.url}/api/generate", json=ASK)
    assert json.loads(answer.text.splitlines()[-1]) == {"error": "internal server error"}
    assert "secret" not in answer.text
    assert "/secret/path" in caplog.text


async def leave_after_the_first_line(live: Live, path: str, body: object) -> None:
    data = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(data)}\r\n\r\n"
    reader, writer = await asyncio.open_connection(live.host, live.port)
    writer.write(head.encode() + data)
    await reader.readuntil(b'"done":false')
    writer.close()


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - what is waited for is inside the server
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("path", ["/api/generate", "/api/chat"])
async def test_a_client_that_leaves_ends_the_answer(live: Live, engine: FakeEngine, path: str) -> None:
    engine.script = [Delta("x"), 60.0, Final(done_reason="stop")]
    await leave_after_the_first_line(live, path, {**ASK, "messages": [{"content": "hi"}]})
    await until(lambda: engine.abandoned)
    await until(lambda: not live.server.server_state.tasks)


@pytest.mark.parametrize("body", [{"model": "t"}, ASK])
async def test_a_client_that_leaves_before_the_first_event(live: Live, engine: FakeEngine, body: object) -> None:
    engine.script = [60.0, Final(done_reason="stop")]
    data = json.dumps(body).encode()
    _, writer = await asyncio.open_connection(live.host, live.port)
    writer.write(b"POST /api/generate HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s" % (len(data), data))
    await until(lambda: engine.asked)
    writer.close()
    await until(lambda: engine.abandoned)


async def test_many_abandoned_streams_leave_nothing(live: Live, engine: FakeEngine) -> None:
    engine.script = [Delta("x"), 60.0, Final(done_reason="stop")]
    await until(lambda: not any("_prune" in repr(task) for task in asyncio.all_tasks()))
    tasks = len(asyncio.all_tasks())
    for _ in range(10):
        await asyncio.gather(*(leave_after_the_first_line(live, "/api/generate", ASK) for _ in range(8)))
    await until(lambda: engine.abandoned == 80)
    await until(lambda: len(asyncio.all_tasks()) == tasks)
    assert not live.server.server_state.connections


async def test_a_slow_reader_holds_up_only_itself(live: Live, engine: FakeEngine) -> None:
    engine.script = [Delta("x" * 100_000) for _ in range(200)]
    engine.script.append(Final(done_reason="stop"))
    data = json.dumps(ASK).encode()
    reader, writer = await asyncio.open_connection(live.host, live.port, limit=1024)
    writer.write(b"POST /api/generate HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s" % (len(data), data))
    await until(lambda: engine.asked)
    async with httpx.AsyncClient(trust_env=False) as client:
        assert (await client.get(f"{live.url}/api/version")).status_code == 200
    received = b""
    async with asyncio.timeout(20):
        while not received.endswith(b"0\r\n\r\n"):
            received = (received + await reader.read(1 << 20))[-10:] if received else await reader.read(1 << 20)
    writer.close()
    await until(lambda: not live.server.server_state.tasks)
    assert engine.abandoned == 0


class EventWriter(Writer[Event]):
    """A dialect of server-sent events: named ones, several for one piece of an answer, an error in its own shape."""

    framing = Framing.SSE
    media_type = "text/event-stream"
    error_media_type = "application/json"

    @staticmethod
    def error_object(info: ErrorInfo) -> dict[str, object]:
        return {"oops": info.message, "code": info.status}

    def ping(self) -> bytes:
        return b": ping\n\n"

    def event(self, event: Event) -> bytes:
        if isinstance(event, Final):
            return self.framing.frame(b'{"end":"%s"}' % event.done_reason.encode(), "stop")
        frames = [self.framing.frame(json.dumps(text).encode(), "piece") for text in event.content.split(" ") if text]
        return b"".join(frames)

    def end(self) -> bytes:
        return self.framing.frame(b"[DONE]")


@pytest.fixture
async def sse(settings: Settings, engine: FakeEngine) -> AsyncIterator[httpx.AsyncClient]:
    async with with_pieces(settings, engine) as client:
        yield client


@asynccontextmanager
async def with_pieces(settings: Settings, engine: FakeEngine) -> AsyncIterator[httpx.AsyncClient]:
    """The application with a route more, of which nothing is its own but the writer."""
    router = APIRouter()

    @router.post("/v1/pieces")
    async def pieces() -> Response:
        return StreamingAnswer(engine.generate(GenerateRequest(model="t", prompt="p")), EventWriter())

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("server.app.ROUTERS", (*ROUTERS, router))
        transport = httpx.ASGITransport(app=create_app(settings, engine, engine.models))
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        yield client


async def test_server_sent_events(sse: httpx.AsyncClient, engine: FakeEngine) -> None:
    engine.script = [Delta("Hel lo"), Delta(" "), Delta("you"), Final(done_reason="length")]
    answer = await sse.post("/v1/pieces")
    assert answer.headers["content-type"] == "text/event-stream"
    assert answer.text == (
        'event: piece\ndata: "Hel"\n\nevent: piece\ndata: "lo"\n\nevent: piece\ndata: "you"\n\n'
        'event: stop\ndata: {"end":"length"}\n\ndata: [DONE]\n\n'
    )
    assert engine.abandoned == 0


async def test_server_sent_events_end_with_the_dialects_error(sse: httpx.AsyncClient, engine: FakeEngine) -> None:
    engine.script = [Delta("Hel"), errors.ServerBusy()]
    answer = await sse.post("/v1/pieces")
    assert answer.status_code == 200
    first, last = answer.text.strip().split("\n\n")
    assert first == 'event: piece\ndata: "Hel"'
    assert json.loads(last.removeprefix("data: ")) == {"oops": str(errors.ServerBusy()), "code": 503}


async def test_an_error_before_the_first_event_has_its_own_status(sse: httpx.AsyncClient, engine: FakeEngine) -> None:
    engine.script = [errors.ServerBusy()]
    answer = await sse.post("/v1/pieces")
    assert (answer.status_code, answer.headers["content-type"]) == (503, "application/json")
    assert answer.json()["error"]["message"] == str(errors.ServerBusy())


async def test_a_silent_stream_gets_pings(engine: FakeEngine, settings: Settings) -> None:
    engine.script = [0.3, Delta("Hel"), 0.3, Final(done_reason="stop")]
    async with with_pieces(replace(settings, ping_interval=0.05), engine) as client:
        text = (await client.post("/v1/pieces")).text
    before, after = text.split('event: piece\ndata: "Hel"\n\n')
    assert before.startswith(": ping\n\n")
    assert set(before.split("\n\n")) == {": ping", ""}
    assert after.startswith(": ping\n\n")


async def test_an_error_behind_a_ping_is_in_the_stream(engine: FakeEngine, settings: Settings) -> None:
    engine.script = [0.3, errors.ServerBusy()]
    async with with_pieces(replace(settings, ping_interval=0.05), engine) as client:
        answer = await client.post("/v1/pieces")
    assert answer.status_code == 200
    *pings, last = answer.text.strip().split("\n\n")
    assert set(pings) == {": ping"}
    assert json.loads(last.removeprefix("data: ")) == {"oops": str(errors.ServerBusy()), "code": 503}


async def test_without_an_interval_there_are_no_pings(engine: FakeEngine, settings: Settings) -> None:
    engine.script = [0.2, Delta("Hel"), Final(done_reason="stop")]
    async with with_pieces(replace(settings, ping_interval=0.0), engine) as client:
        assert ": ping" not in (await client.post("/v1/pieces")).text


def test_progress_without_a_stream_is_its_last_step() -> None:
    writer = ProgressWriter(stream=False)
    assert [writer.event({"status": "one"}), writer.event({"status": "two"})] == [b"", b""]
    assert writer.end() == b'{"status":"two"}'
    writer = ProgressWriter(stream=True)
    assert [writer.event({"status": "one"}), writer.end()] == [b'{"status":"one"}\n', b""]
