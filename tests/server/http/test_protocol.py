"""What arrives on a connection is read in one way, and has bounds."""

import asyncio
import gc
import json
import re
import socket
import struct
from contextlib import suppress

import pytest

from engine.api import Delta, Final
from server.http.protocol import MAX_HEADER_BYTES, MAX_HEADERS, BoundedHttpProtocol
from server.settings import Settings
from tests.server.conftest import Live, answers
from tests.server.fake_engine import FakeEngine

REFUSED = b"HTTP/1.1 431 Request Header Fields Too Large\r\n"
START = b"GET /api/version HTTP/1.1\r\nHost: localhost\r\n"


async def test_ordinary_headers(live: Live) -> None:
    answer = await live.send(START + b"X-A: 1\r\n" * (MAX_HEADERS - 1) + b"\r\n")
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")


async def test_too_many(live: Live) -> None:
    answer = await live.send(START + b"X-A: 1\r\n" * MAX_HEADERS + b"\r\n")
    assert answer.startswith(REFUSED)
    assert b"connection: close" in answer


@pytest.mark.parametrize("size", [MAX_HEADER_BYTES, 10 * MAX_HEADER_BYTES])
async def test_one_too_large(live: Live, size: int) -> None:
    assert (await live.send(START + b"X-A: " + b"a" * size + b"\r\n\r\n")).startswith(REFUSED)


async def test_a_header_that_never_ends(live: Live) -> None:
    assert (await live.send(START + b"X-A: " + b"a" * 5_000_000)).startswith((REFUSED, b""))
    assert (await live.send(START + b"\r\n")).startswith(b"HTTP/1.1 200 OK\r\n")


async def test_a_target_that_is_too_long(live: Live) -> None:
    answer = await live.send(b"GET /" + b"a" * MAX_HEADER_BYTES + b" HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert answer.startswith(REFUSED)


async def test_a_body_is_no_header(live: Live) -> None:
    body = b'{"model":"' + b"a" * 90_000 + b'"}'
    head = b"POST /api/show HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body)
    assert (await live.send(head + body)).startswith(b"HTTP/1.1 400 ")


async def test_garbage(live: Live) -> None:
    assert (await live.send(b"GARBAGE\r\n\r\n")).startswith(b"HTTP/1.1 400 Bad Request\r\n")


async def test_head_has_no_body(live: Live) -> None:
    answer = await live.send(b"HEAD / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert answer.endswith(b"\r\n\r\n")
    assert b"content-type: text/plain; charset=utf-8" in answer


@pytest.mark.parametrize("target", [b"//api/tags", b"/api/./tags", b"/x/../api/tags", b"/../api//tags"])
async def test_odd_paths_are_redirected(live: Live, target: bytes) -> None:
    answer = await live.send(b"GET " + target + b"?a=1 HTTP/1.1\r\nHost: evil.example\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 307 Temporary Redirect\r\n")
    assert b"location: /api/tags?a=1\r\n" in answer


@pytest.mark.parametrize(
    ("target", "header", "status"),
    [
        (b"http://evil.example/api/version", b"localhost", b"403"),
        (b"http://evil.example:11434/api/version", b"localhost", b"403"),
        (b"http://localhost:11434/api/version", b"evil.example", b"200"),
        (b"/api/version?x=http://evil.example", b"localhost", b"200"),
        (b"/api/version", b"evil.example", b"403"),
        (b"http:///api/version", b"localhost", b"400"),
    ],
)
async def test_the_host_of_an_absolute_target_counts(live: Live, target: bytes, header: bytes, status: bytes) -> None:
    answer = await live.send(b"GET " + target + b" HTTP/1.1\r\nHost: " + header + b"\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 " + status)


HOST = b"Host: localhost\r\n"
PROMPT = b'{"prompt":"hi","model":"t","stream":false}'
LENGTH = b"Content-Length: %d\r\n" % len(PROMPT)
CHUNKED = b"Transfer-Encoding: chunked\r\n"
CHUNKS = b"%x\r\n%b\r\n0\r\n\r\n" % (len(PROMPT), PROMPT)
GENERATE = b"POST /api/generate HTTP/1.1\r\n" + HOST
LAST = b"GET /api/version HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
UPGRADES = [
    b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n",
    b"Connection: keep-alive, upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n",
    b"Upgrade: TLS/1.2, anything\r\nConnection: UPGRADE\r\n",
]
FINAL = Final(done_reason="stop")


def statuses(found: list[tuple[int, bytes]]) -> list[int]:
    return [status for status, _ in found]


@pytest.mark.parametrize("upgrade", UPGRADES)
@pytest.mark.parametrize("framed", [LENGTH + b"\r\n" + PROMPT, CHUNKED + b"\r\n" + CHUNKS], ids=["length", "chunks"])
async def test_an_upgrade_is_ignored(live: Live, engine: FakeEngine, upgrade: bytes, framed: bytes) -> None:
    engine.script = [FINAL]
    request = GENERATE + upgrade + framed
    first = b"GET /api/version HTTP/1.1\r\n" + HOST + upgrade + b"\r\n"
    assert statuses(await live.converse(request, LAST)) == [200, 200]
    assert statuses(await live.converse(first + request + request + LAST)) == [200, 200, 200, 200]
    assert [asked.prompt for asked in engine.asked] == ["hi", "hi", "hi"]


async def test_an_upgrade_with_a_body_that_is_waited_for(live: Live, engine: FakeEngine) -> None:
    engine.script = [FINAL]
    found = await live.converse(GENERATE + UPGRADES[0] + LENGTH + b"Expect: 100-continue\r\n\r\n", PROMPT, LAST)
    assert statuses(found) == [100, 200, 200]


async def test_what_is_in_a_body_is_no_request(live: Live, engine: FakeEngine) -> None:
    hidden = b"DELETE /api/delete HTTP/1.1\r\nHost: localhost\r\n\r\n"
    request = GENERATE + UPGRADES[0] + b"Content-Length: %d\r\n\r\n" % len(hidden) + hidden
    found = await live.converse(request + LAST)
    assert statuses(found) == [400, 200]
    assert found[0][1].startswith(b'{"error":"invalid character \'D\'')


@pytest.mark.parametrize("framed", [LENGTH + b"\r\n" + PROMPT, CHUNKED + b"\r\n" + CHUNKS], ids=["length", "chunks"])
async def test_any_pieces_are_the_same_request(live: Live, engine: FakeEngine, framed: bytes) -> None:
    engine.script = [FINAL]
    data = GENERATE + UPGRADES[0] + framed + LAST
    for size in range(1, len(data)):
        assert statuses(await live.converse(data[:size], data[size:])) == [200, 200], size
    assert statuses(await live.converse(*(data[at : at + 1] for at in range(len(data))))) == [200, 200]
    assert len(engine.asked) == len(data)


@pytest.mark.parametrize(
    "headers",
    [
        LENGTH + CHUNKED,
        CHUNKED + LENGTH,
        LENGTH + LENGTH,
        LENGTH + b"Content-Length: 3\r\n",
        b"Content-Length: %d, %d\r\n" % (len(PROMPT), len(PROMPT)),
        b"Content-Length: -1\r\n",
        b"Content-Length: +42\r\n",
        b"Content-Length: 4 2\r\n",
        b"Content-Length: 0x2a\r\n",
        b"Content-Length: 99999999999999999999\r\n",
        b"Content-Length : 42\r\n",
        b"Transfer-Encoding : chunked\r\n",
        b"Transfer-Encoding: chunked, identity\r\n",
        b"Transfer-Encoding: \x0bchunked\r\n",
        b"Transfer-Encoding:\r\n chunked\r\n",
        CHUNKED + CHUNKED,
        b"X-A: a\r\n b\r\n" + LENGTH,
        b" X-A: a\r\n" + LENGTH,
        b"X-A: a\n" + LENGTH,
        b"X-A: a\r" + LENGTH,
        b"X-A: a\0\r\n" + LENGTH,
        b"X-A\r\n" + LENGTH,
        b": a\r\n" + LENGTH,
        b"Host: localhost\r\n" + LENGTH,
    ],
)
async def test_what_can_be_read_in_two_ways_is_refused(live: Live, engine: FakeEngine, headers: bytes) -> None:
    engine.script = [FINAL]
    for body in (PROMPT, CHUNKS):
        [(status, answer)] = await live.converse(GENERATE + headers + b"\r\n" + body + LAST)
        assert status == 400
        assert answer.startswith(b'{"error":"')
    assert not engine.asked


@pytest.mark.parametrize("coding", [b"xchunked", b"gzip, chunked", b"identity", b'"chunked"'])
async def test_other_transfer_codings_are_not_known(live: Live, coding: bytes) -> None:
    found = await live.converse(GENERATE + b"Transfer-Encoding: " + coding + b"\r\n\r\n" + CHUNKS + LAST)
    assert statuses(found) == [501]


@pytest.mark.parametrize(
    "chunks",
    [
        b"ffffffffffffffffff\r\n" + PROMPT,
        b"-2a\r\n" + PROMPT + b"\r\n0\r\n\r\n",
        b"0x2a\r\n" + PROMPT + b"\r\n0\r\n\r\n",
        b"2a\n" + PROMPT + b"\n0\n\n",
        b"2a \r\n" + PROMPT + b"\r\n0\r\n\r\n",
        b"2a;a\nb\r\n" + PROMPT + b"\r\n0\r\n\r\n",
        b"20\r\n" + PROMPT + b"\r\n0\r\n\r\n",
        b"\r\n" + PROMPT + b"\r\n0\r\n\r\n",
    ],
)
async def test_broken_chunks(live: Live, engine: FakeEngine, chunks: bytes) -> None:
    assert statuses(await live.converse(GENERATE + CHUNKED + b"\r\n", chunks + LAST)) == [400]
    assert not engine.asked


async def test_extensions_and_trailers_are_not_used(live: Live, engine: FakeEngine) -> None:
    engine.script = [FINAL]
    chunks = b"%x;a=b;c\r\n%b\r\n0;d\r\nX-A: 1\r\nHost: evil.example\r\n\r\n" % (len(PROMPT), PROMPT)
    assert statuses(await live.converse(GENERATE + CHUNKED + b"\r\n" + chunks + LAST)) == [200, 200]


@pytest.mark.parametrize(
    "request_",
    [
        b"CONNECT localhost:1 HTTP/1.1\r\n",
        b"CONNECT /api/tags HTTP/1.1\r\n",
        b"CONNECT /api/show HTTP/1.1\r\n" + LENGTH,
    ],
)
async def test_connect_opens_no_tunnel(live: Live, request_: bytes) -> None:
    assert statuses(await live.converse(request_ + HOST + b"\r\n" + LAST)) == [405]


@pytest.mark.parametrize("version", [b"0.9", b"2.0"])
async def test_other_versions(live: Live, version: bytes) -> None:
    assert statuses(await live.converse(b"GET / HTTP/" + version + b"\r\n" + HOST + b"\r\n" + LAST)) == [505]


async def test_the_preface_of_http_2(live: Live) -> None:
    assert statuses(await live.converse(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0")) == [400]


async def test_a_host_is_required(live: Live) -> None:
    assert statuses(await live.converse(b"GET / HTTP/1.1\r\n\r\n")) == [400]
    assert statuses(await live.converse(b"GET / HTTP/1.0\r\n\r\n")) == [200]


async def test_many_requests_at_once(live: Live) -> None:
    request = b"GET /api/version HTTP/1.1\r\n" + HOST + b"\r\n"
    assert statuses(await live.converse(request * 5000 + LAST)) == [200] * 5001


async def test_garbage_behind_a_request_waits_for_its_answer(live: Live, engine: FakeEngine) -> None:
    engine.script = [Delta("a"), 0.1, Delta("b"), FINAL]
    request = b"POST /api/generate HTTP/1.1\r\n" + HOST + LENGTH + b"\r\n" + PROMPT
    found = await live.converse(request + request + b"GARBAGE\r\n\r\n")
    assert statuses(found) == [200, 200, 400]
    assert b'"response":"ab"' in found[1][1]


STREAMED = b'{"model":"t","prompt":"hi"}'


@pytest.mark.parametrize("more", [b"", b"Connection: keep-alive\r\n", HOST], ids=["plain", "keep-alive", "host"])
async def test_http_1_0_gets_no_chunks(live: Live, engine: FakeEngine, more: bytes) -> None:
    engine.script = [Delta("a"), 0.01, Delta("b"), FINAL]
    head = b"POST /api/generate HTTP/1.0\r\n%bContent-Length: %d\r\n\r\n" % (more, len(STREAMED))
    [(status, body)] = await live.converse(head + STREAMED)
    assert status == 200
    assert [json.loads(line)["done"] for line in body.splitlines()] == [False, False, True]


async def test_http_1_0_may_keep_the_connection(live: Live) -> None:
    kept = b"GET /api/version HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n"
    assert b"\r\nconnection: keep-alive\r\n" in await live.send(kept)
    assert statuses(await live.converse(kept + kept + b"HEAD / HTTP/1.0\r\n\r\n"))[:2] == [200, 200]
    assert statuses(await live.converse(b"GET /api/version HTTP/1.0\r\n\r\n" + kept)) == [200]


async def test_http_1_0_has_no_transfer_coding(live: Live) -> None:
    assert statuses(await live.converse(b"POST /api/show HTTP/1.0\r\n" + CHUNKED + b"\r\n" + CHUNKS)) == [400]


UNWANTED = [
    (b"/", 405),
    (b"/api/tags", 405),
    (b"/nowhere", 404),
    (b"/v1/audio/transcriptions", 400),
    (b"/api/blobs/sha256-0", 400),
    (b"/api/me", 401),
]


@pytest.fixture
def no_linger(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BoundedHttpProtocol, "linger", 0.05)


@pytest.mark.usefixtures("no_linger")
@pytest.mark.parametrize(("path", "status"), UNWANTED)
@pytest.mark.parametrize("framing", ["chunks", "length"])
async def test_a_body_that_nobody_wants_has_an_end(live: Live, path: bytes, status: int, framing: str) -> None:
    piece = b"a" * 65536
    how = CHUNKED if framing == "chunks" else b"Content-Length: 10000000000\r\n"
    part = b"10000\r\n" + piece + b"\r\n" if framing == "chunks" else piece
    found = await _flood(live, b"POST " + path + b" HTTP/1.1\r\n" + HOST + how + b"\r\n", part)
    assert statuses(found) == [status]


@pytest.mark.usefixtures("no_linger")
@pytest.mark.parametrize(
    "part", [b"0\r\nX-A: ", b"0\r\n", b"1;", b"1;a=\r\na\r\n" + b"1;" + b"a" * 1000 + b"\r\na\r\n"]
)
async def test_what_surrounds_chunks_has_an_end(live: Live, part: bytes) -> None:
    more = b"X-A: 1\r\n" if part == b"0\r\n" else part if part.endswith(b"\r\n") else b"a" * 1000
    assert statuses(await _flood(live, GENERATE + CHUNKED + b"\r\n" + part, more * 60)) == [431]


async def _flood(live: Live, head: bytes, part: bytes) -> list[tuple[int, bytes]]:
    """The answers to a request that goes on and on, if the server ends it."""
    reader, writer = await asyncio.open_connection(live.host, live.port)
    writer.write(head)
    with suppress(OSError):  # a reset or a broken pipe, as it comes
        for _ in range(200_000_000 // len(part)):
            writer.write(part)
            await writer.drain()
        pytest.fail("the server goes on reading")
    found = reader._buffer  # type: ignore[attr-defined]  # read() would raise what ended the connection
    writer.close()
    return list(answers(bytes(found)))


async def test_small_chunks_are_no_attack(live: Live, engine: FakeEngine) -> None:
    engine.script = [FINAL]
    body = PROMPT[:-1] + b" " * 50_000 + b"}"
    chunks = b"".join(b"00000001\r\n%c\r\n" % byte for byte in body) + b"0\r\n\r\n"
    assert (await live.send(GENERATE + CHUNKED + b"\r\n" + chunks)).startswith(b"HTTP/1.1 200 ")


async def test_an_early_answer_is_read_by_who_is_still_sending(live: Live, settings: Settings) -> None:
    head = b"POST /api/show HTTP/1.1\r\n" + HOST + b"Content-Length: 500000\r\n\r\n"
    [(status, _)] = await live.converse(head, *[b"a" * 50_000] * 10)
    assert status == 413


async def test_headers_must_come_in_time(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BoundedHttpProtocol, "header_timeout", 0.1)
    assert statuses(await live.converse(b"GET / HTTP/1.1\r\nHost:")) == [408]
    assert statuses(await live.converse(b"GET / HTTP/1.1\r\n" + HOST + b"\r\nGET / HTT")) == [200, 408]
    assert await live.converse() == []


async def test_a_body_must_go_on(live: Live, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BoundedHttpProtocol, "header_timeout", 0.1)
    monkeypatch.setattr(BoundedHttpProtocol, "body_timeout", 0.1)
    unfinished = LENGTH + b"\r\n" + PROMPT[:-1]
    assert statuses(await live.converse(GENERATE + unfinished)) == [408]
    assert statuses(await live.converse(GENERATE + CHUNKED + b"\r\n2a\r\n" + PROMPT)) == [408]
    assert statuses(await live.converse(b"POST /nowhere HTTP/1.1\r\n" + HOST + unfinished)) == [404]
    assert not engine.asked


async def test_an_answer_may_take_longer_than_a_request(
    live: Live, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(BoundedHttpProtocol, "header_timeout", 0.1)
    monkeypatch.setattr(BoundedHttpProtocol, "body_timeout", 0.1)
    engine.script = [0.3, FINAL]
    request = GENERATE + LENGTH + b"\r\n" + PROMPT
    assert statuses(await live.converse(request + request + LAST)) == [200, 200, 200]


async def test_nothing_is_kept_of_a_connection_that_was_reset(live: Live) -> None:
    for _ in range(20):
        reader, writer = await asyncio.open_connection(live.host, live.port)
        writer.write(START + b"X-A: " + b"a" * 20_000 + b"\r\n\r\n")
        await reader.readuntil(b"}")
        connection = writer.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.close()
    del reader, writer
    await live.until_alone()
    gc.collect()
    assert not [found for found in gc.get_objects() if isinstance(found, BoundedHttpProtocol)]


@pytest.mark.parametrize("first", [GENERATE + UPGRADES[0] + LENGTH + b"\r\n" + PROMPT[:-1], GENERATE + b"X-A"])
async def test_a_client_that_leaves_within_a_request(live: Live, engine: FakeEngine, first: bytes) -> None:
    _, writer = await asyncio.open_connection(live.host, live.port)
    writer.write(first)
    await writer.drain()
    writer.close()
    assert statuses(await live.converse(LAST)) == [200]
    await live.until_alone()
    assert not engine.asked


async def half_closed(live: Live, data: bytes) -> list[int]:
    """The statuses of the answers to a client that says that it sends nothing more."""
    reader, writer = await asyncio.open_connection(live.host, live.port)
    writer.write(data)
    writer.write_eof()
    async with asyncio.timeout(30):
        found = await reader.read()
    writer.close()
    await live.until_alone()
    return statuses(list(answers(found)))


async def test_who_sends_no_more_is_answered(live: Live) -> None:
    request = b"GET /api/version HTTP/1.1\r\n" + HOST + b"\r\n"
    show = b"POST /api/show HTTP/1.1\r\n" + HOST + LENGTH + b"\r\n" + PROMPT
    assert await half_closed(live, request) == [200]
    assert await half_closed(live, show + request * 500) == [404] + [200] * 500
    assert await half_closed(live, request + b"GARBAGE\r\n\r\n") == [200, 400]
    assert await half_closed(live, b"") == []
    assert await half_closed(live, request[:-2]) == []


@pytest.mark.parametrize("stream", [b"true", b"false"])
async def test_who_sends_no_more_may_have_gone(
    live: Live, engine: FakeEngine, stream: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    engine.script = [Delta("a"), 600.0, FINAL]
    body = PROMPT.replace(b"false", stream)
    generate = GENERATE.replace(b"1.1", b"1.0")
    assert await half_closed(live, generate + b"Content-Length: %d\r\n\r\n" % len(body) + body) in ([], [200])
    assert engine.abandoned == 1
    assert await half_closed(live, GENERATE + LENGTH + b"\r\n" + PROMPT[:-1]) == []
    assert len(engine.asked) == 1
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


async def test_a_refusal_has_a_request_id_that_is_in_the_log(live: Live, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "pronk.access")
    answer = await live.send(b"what is this\r\n\r\n")
    found = re.search(rb"\r\nx-request-id: ([0-9a-f]{16})\r\n", answer)
    assert found, answer
    (record,) = [record for record in caplog.records if record.getMessage().startswith("request refused: ")]
    assert vars(record)["fields"]["request_id"] == found[1].decode()
