"""Ways to a server on another machine: through proxies of every kind, with TLS."""

from __future__ import annotations

import datetime
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.cli.conftest import Pronk
from tests.serving import Served

ELSEWHERE = "pronk.test"  # a name that only the proxy knows
HEAD = b'HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\n{"models":[]}'


@contextmanager
def accepting(serve: Callable[[socket.socket], None]) -> Iterator[int]:
    """The port of a server of one connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(20)

        def work() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.settimeout(20)
                serve(connection)

        thread = threading.Thread(target=work)
        thread.start()
        yield listener.getsockname()[1]
        thread.join()


def until(connection: socket.socket, end: bytes) -> bytes:
    data = b""
    while not data.endswith(end):
        data += connection.recv(1)
    return data


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A certificate and its key in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, ELSEWHERE)])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(ELSEWHERE)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    path = tmp_path / "certificate.pem"
    path.write_bytes(
        made.public_bytes(pem) + key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return path


def answer_with_tls(connection: socket.socket, certificate: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    try:
        with context.wrap_socket(connection, server_side=True) as inner:
            until(inner, b"\r\n\r\n")
            inner.sendall(HEAD)
    except ssl.SSLError:  # the client does not trust it
        return


def test_a_proxy_that_forwards(alone: Pronk) -> None:
    heads = []

    def forward(connection: socket.socket) -> None:
        heads.append(until(connection, b"\r\n\r\n").decode())
        connection.sendall(HEAD)

    with accepting(forward) as port:
        proxy = f"http://me:s%40cret@127.0.0.1:{port}"
        result = alone("ps", OLLAMA_HOST=f"http://{ELSEWHERE}:80/base", HTTP_PROXY=proxy, OLLAMA_API_KEY="key")
    assert (result.returncode, result.stderr) == (0, "")
    assert heads[0].startswith(f"GET http://{ELSEWHERE}:80/base/api/ps HTTP/1.1\r\nHost: {ELSEWHERE}:80\r\n")
    assert "\r\nAuthorization: Bearer key\r\n" in heads[0]
    assert "\r\nProxy-Authorization: Basic bWU6c0BjcmV0\r\n" in heads[0]


@pytest.mark.parametrize("trusted", [True, False])
def test_tls_through_a_tunnel(alone: Pronk, certificate: Path, trusted: bool) -> None:
    heads = []

    def dig(connection: socket.socket) -> None:
        heads.append(until(connection, b"\r\n\r\n").decode())
        connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        answer_with_tls(connection, certificate)

    environ = {"SSL_CERT_FILE": str(certificate)} if trusted else {}
    with accepting(dig) as port:
        proxy = f"http://me:x@127.0.0.1:{port}"
        result = alone("ps", OLLAMA_HOST=f"https://{ELSEWHERE}", HTTPS_PROXY=proxy, OLLAMA_API_KEY="key", **environ)
    assert heads[0].startswith(f"CONNECT {ELSEWHERE}:443 HTTP/1.1\r\n")
    assert "Proxy-Authorization" in heads[0]
    assert "key" not in heads[0], "the proxy may not see the server's key"
    if trusted:
        assert (result.returncode, result.stderr) == (0, "")
    else:
        assert result.returncode == 1
        assert result.stderr.startswith(f"Error: could not connect to https://{ELSEWHERE}:443, self-signed certificate")


def test_a_proxy_that_refuses(alone: Pronk) -> None:
    def refuse(connection: socket.socket) -> None:
        until(connection, b"\r\n\r\n")
        connection.sendall(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")

    with accepting(refuse) as port:
        proxy = f"http://127.0.0.1:{port}"
        said = alone.fail("ps", OLLAMA_HOST=f"https://{ELSEWHERE}", HTTPS_PROXY=proxy)
    assert said.startswith(f"Error: could not connect to https://{ELSEWHERE}:443, the proxy {proxy} answers 407 Proxy ")


def test_a_socks_proxy(alone: Pronk, server: Served) -> None:
    """The name goes to the proxy as it is; the answer comes from the real server."""

    def relay(connection: socket.socket) -> None:
        assert connection.recv(3) == b"\x05\x01\x02"
        connection.sendall(b"\x05\x02")
        assert connection.recv(100) == b"\x01\x02me\x01x"
        connection.sendall(b"\x01\x00")
        name = ELSEWHERE.encode()
        assert connection.recv(100) == b"\x05\x01\x00\x03" + bytes([len(name)]) + name + (80).to_bytes(2)
        connection.sendall(b"\x05\x00\x00\x01\x7f\x00\x00\x01\x00\x50")
        head = until(connection, b"\r\n\r\n").replace(f"Host: {ELSEWHERE}:80".encode(), b"Host: localhost")
        with socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2]))) as real:
            real.sendall(head)
            while data := real.recv(65536):
                connection.sendall(data)

    with accepting(relay) as port:
        result = alone("list", OLLAMA_HOST=f"http://{ELSEWHERE}:80", ALL_PROXY=f"socks5h://me:x@127.0.0.1:{port}")
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith("NAME ")


def test_a_server_that_is_elsewhere(alone: Pronk) -> None:
    def redirect(connection: socket.socket) -> None:
        until(connection, b"\r\n\r\n")
        connection.sendall(
            b"HTTP/1.1 308 Permanent Redirect\r\nLocation: https://a.b/api/ps\r\nContent-Length: 0\r\n\r\n"
        )

    with accepting(redirect) as port:
        said = alone.fail("ps", OLLAMA_HOST=f"127.0.0.1:{port}")
    assert said == "Error: the server is elsewhere: set OLLAMA_HOST to https://a.b\n"


def test_a_server_that_breaks_off(alone: Pronk) -> None:
    def break_off(connection: socket.socket) -> None:
        until(connection, b"\r\n\r\n")
        connection.sendall(HEAD[:-3])

    with accepting(break_off) as port:
        said = alone.fail("ps", OLLAMA_HOST=f"127.0.0.1:{port}")
    assert said == (
        f"Error: lost the connection to http://127.0.0.1:{port}: it was closed in the middle of an answer\n"
    )
