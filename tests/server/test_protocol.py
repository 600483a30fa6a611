"""Headers have a limit, on the wire."""

import pytest

from server.protocol import MAX_HEADER_BYTES, MAX_HEADERS
from tests.server.conftest import Live

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
