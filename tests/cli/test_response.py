"""HTTP responses as they come from a socket, whole and in pieces."""

import socket

import pytest

from cli.response import BadResponse, Response

CHUNKED = b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\n{}\n{\r\n7\r\n"a":1}\n\r\n0\r\n\r\n'


class Pieces:
    """What a socket receives, a few bytes at a time."""

    def __init__(self, data: bytes, size: int) -> None:
        self._pieces = iter(data[at : at + size] for at in range(0, len(data), size))

    def recv(self, _: int) -> bytes:
        return next(self._pieces, b"")


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_lines_of_chunks(size: int) -> None:
    response = Response(Pieces(CHUNKED, size), "POST")
    assert (response.status, response.reason) == (200, "OK")
    assert [response.readline() for _ in range(3)] == [b"{}\n", b'{"a":1}\n', b""]


@pytest.mark.parametrize("size", [1, 3, 1000])
@pytest.mark.parametrize(
    ("head", "body"),
    [
        (b"Content-Length: 5\r\n", b"a\nbcd"),
        (b"", b"until the end"),  # as HTTP/1.0 has it
        (b"Content-Length: 0\r\n", b""),
    ],
)
def test_bodies(head: bytes, body: bytes, size: int) -> None:
    data = b"HTTP/1.1 404 Not Found\r\nX-Y: z\r\n" + head + b"\r\n" + body
    response = Response(Pieces(data, size), "GET")
    assert (response.status, response.headers["x-y"], response.read()) == (404, "z", body)


def test_an_answer_to_head_has_no_body() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")
        assert Response(ours, "HEAD").read() == b""


@pytest.mark.parametrize("size", [1, 1000])
@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "it was closed"),
        (b"SSH-2.0-OpenSSH\r\n", "what came is no HTTP"),
        (b"HTTP/1.1 200 OK\r\n", "it was closed in the middle of an answer"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab", "it was closed in the middle of an answer"),
        (CHUNKED[:-9], "it was closed in the middle of an answer"),
        (b"HTTP/1.1 103 Early Hints\r\n\r\n", "it answers 103 Early Hints"),
    ],
)
def test_what_is_no_answer(data: bytes, message: str, size: int) -> None:
    with pytest.raises(BadResponse, match=f"^{message}$"):
        Response(Pieces(data, size), "GET").read()
