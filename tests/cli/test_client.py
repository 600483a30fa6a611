"""The way to the server, whatever the environment says."""

import socket
from collections.abc import Iterator

import pytest

from tests.cli.conftest import Pronk
from tests.serving import Served

NOWHERE = "127.0.0.1:1"


@pytest.fixture
def port(server: Served) -> str:
    return server.url.rpartition(":")[2]


@pytest.mark.parametrize(
    "environ",
    [
        {"ALL_PROXY": f"socks5://{NOWHERE}"},
        {"all_proxy": "socks4://x", "NO_PROXY": "[::1],http://[::1"},
        {"HTTP_PROXY": "http://h:port", "HTTPS_PROXY": "\x01"},
        {"SSL_CERT_FILE": "/nonexistent", "SSLKEYLOGFILE": "/nonexistent/x"},
        {"OLLAMA_KEEP_ALIVE": "9" * 400, "PRONK_VERSION_REPORTED": "é"},
    ],
)
def test_what_the_environment_holds_breaks_nothing(pronk: Pronk, environ: dict[str, str]) -> None:
    result = pronk.from_scratch("ps", **environ)
    assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.parametrize("host", ["0.0.0.0:{}", ":{}", "[::]:{}", "0:{}", " 'HTTP://localhost:{}/' "])
def test_this_machine_is_reached_without_a_proxy(pronk: Pronk, port: str, host: str) -> None:
    result = pronk("ps", HTTP_PROXY=f"http://{NOWHERE}", ALL_PROXY=f"http://{NOWHERE}", OLLAMA_HOST=host.format(port))
    assert (result.returncode, result.stderr) == (0, "")


@pytest.fixture
def proxy() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(20)
        yield listener


@pytest.mark.parametrize("scheme", ["http", "socks5h"])
def test_another_machine_is_reached_through_the_proxy(alone: Pronk, proxy: socket.socket, scheme: str) -> None:
    environ = {"OLLAMA_HOST": "192.0.2.1:1", "http_proxy": f"{scheme}://127.0.0.1:{proxy.getsockname()[1]}"}
    with alone.start("ps", **environ) as process:
        connection, _ = proxy.accept()
        with connection:
            head = connection.recv(1000)
            assert head == b"\x05\x01\x00" or head.startswith(b"GET http://192.0.2.1:1/api/ps ")
        assert process.wait(20) == 1
        assert process.stderr is not None
        assert "Traceback" not in process.stderr.read()


@pytest.mark.parametrize(
    ("environ", "text"),
    [
        ({"OLLAMA_HOST": "ftp://h"}, 'Error: OLLAMA_HOST has an unsupported protocol scheme "ftp"\n'),
        *(
            ({"OLLAMA_HOST": host}, "Error: OLLAMA_HOST is no address of a server: ")
            for host in ("[", "a..b", "u:p@h:1")
        ),
        ({"OLLAMA_HOST": f"{'x' * 99}.y"}, "Error: OLLAMA_HOST is no address of a server: "),
        ({"OLLAMA_HOST": "192.0.2.1", "HTTP_PROXY": "foo://x"}, 'Error: unsupported proxy scheme "foo"\n'),
        (
            {"OLLAMA_HOST": "127.0.0.2:99999"},
            "Warning: invalid value of OLLAMA_HOST, '99999' is no port, 11434 is used",
        ),
        ({"OLLAMA_API_KEY": "a\nb"}, "Error: OLLAMA_API_KEY must be printable ASCII\n"),
    ],
)
def test_what_cannot_be_used_is_said(alone: Pronk, environ: dict[str, str], text: str) -> None:
    said = alone.fail("list", **environ)
    assert said.startswith(text)
    assert "Traceback" not in said
