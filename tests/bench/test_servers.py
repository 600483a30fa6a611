"""Servers are told apart by their API, and have models or not."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator

import psutil
import pytest

from bench.dialects import LLAMA_SERVER, OLLAMA
from bench.models import Q8_0, TINYCHAT
from bench.processes import listening_at
from bench.servers import Server, UnknownServer, find_server, find_servers


class Pages(http.server.ThreadingHTTPServer):
    """Answers GET with its pages, as JSON, and else with 404."""

    daemon_threads = True

    def __init__(self, pages: dict[str, object]) -> None:
        super().__init__(("127.0.0.1", 0), PageHandler)
        self.pages = pages

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class PageHandler(http.server.BaseHTTPRequestHandler):
    """One request."""

    def do_GET(self) -> None:
        assert isinstance(self.server, Pages)
        page = self.server.pages.get(self.path)
        body = json.dumps(page).encode()
        self.send_response(404 if page is None else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing is printed."""


@pytest.fixture
def pages() -> Iterator[dict[str, object]]:
    """The pages of a server that runs."""
    with Pages({}) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        server.pages["url"] = server.url
        yield server.pages
        server.shutdown()
        thread.join()


def test_ollama_makes_every_model(pages: dict[str, object]) -> None:
    pages["/api/version"] = {"version": "0.33.0"}
    server = find_server(str(pages["url"]))
    assert (server.label, server.version, server.dialect, server.models) == ("Ollama", "0.33.0", OLLAMA, None)
    target = server.target(Q8_0)
    assert target is not None
    assert (target.label, target.model) == ("Ollama", Q8_0.name)
    assert target.api is not None
    assert target.processes is not None
    assert target.processes.cpu_seconds() > 0  # it is this process
    assert target.processes.separate is bool(psutil.Process().children())


@pytest.mark.parametrize("name", ["bench-words-q8_0", "words-q8_0.gguf", "models/words-q8_0.gguf", "words-q8_0"])
def test_llama_server_has_the_model_that_it_was_started_with(pages: dict[str, object], name: str) -> None:
    pages["/v1/models"] = {"data": [{"id": name}]}
    pages["/props"] = {"build_info": "b1"}
    server = find_server(str(pages["url"]))
    assert (server.label, server.version, server.dialect) == ("llama-server", "b1", LLAMA_SERVER)
    target = server.target(Q8_0)
    assert target is not None
    assert (target.model, target.api) == (name, None)
    assert server.target(TINYCHAT) is None
    assert server.api is None


def test_another_server_is_refused(pages: dict[str, object]) -> None:
    with pytest.raises(UnknownServer, match="neither /api/version nor /v1/models"):
        find_server(str(pages["url"]))


def test_servers_of_one_kind_that_have_a_model_in_common_have_their_ports_behind_their_names(
    pages: dict[str, object],
) -> None:
    pages["/api/version"] = {"version": "0.33.0"}
    url = str(pages["url"])
    assert [server.label for server in find_servers([url, url])] == [f"Ollama :{url.rpartition(':')[2]}"] * 2
    assert [server.label for server in find_servers([url])] == ["Ollama"]


def test_a_server_elsewhere_has_no_processes_here() -> None:
    server = Server("http://192.0.2.1:11434", "Ollama", "", OLLAMA, None)
    target = server.target(Q8_0)
    assert target is not None
    assert target.processes is None
    assert listening_at("http://192.0.2.1:11434") is None
