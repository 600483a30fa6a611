"""Streams: when they start, how they fail, and what a client that leaves sets free."""

import asyncio
import json
import logging
from collections.abc import Callable

import httpx
import pytest

from engine import errors
from engine.api import Delta, Final, Rendered
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


@pytest.mark.parametrize("event", [Final(done_reason="load"), Final(done_reason="unload"), Rendered("p")])
async def test_notices_ignore_stream(client: httpx.AsyncClient, engine: FakeEngine, event: Final | Rendered) -> None:
    engine.script = [event]
    answer = await client.post("/api/generate", json=ASK)
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


async def test_a_failure_on_the_way_is_the_last_line(client: httpx.AsyncClient, engine: FakeEngine) -> None:
    engine.script = [Delta("Hel"), errors.RunnerDied()]
    answer = await client.post("/api/generate", json=ASK)
    assert answer.status_code == 200
    lines = [json.loads(line) for line in answer.text.splitlines()]
    assert lines[0]["response"] == "Hel"
    assert lines[1:] == [{"error": str(errors.RunnerDied())}]


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
    await leave_after_the_first_line(live, path, ASK)
    await until(lambda: engine.abandoned)
    await until(lambda: not live.server.server_state.tasks)


async def test_a_client_that_leaves_before_the_first_event(live: Live, engine: FakeEngine) -> None:
    engine.script = [60.0, Final(done_reason="stop")]
    _, writer = await asyncio.open_connection(live.host, live.port)
    writer.write(b'POST /api/generate HTTP/1.1\r\nHost: localhost\r\nContent-Length: 13\r\n\r\n{"model":"t"}')
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
