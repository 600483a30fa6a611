"""Which methods a path has, and where odd spellings lead."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.app import path_table
from server.http.paths import PathTable, Redirect, allow_header, clean_path

ROUTES = {
    "/": {"GET", "HEAD"},
    "/api/version": {"GET", "HEAD"},
    "/api/status": {"GET"},
    "/api/tags": {"GET", "HEAD"},
    "/api/ps": {"GET"},
    "/api/show": {"POST"},
    "/api/generate": {"POST"},
    "/api/chat": {"POST"},
    "/api/embed": {"POST"},
    "/api/embeddings": {"POST"},
    "/api/pull": {"POST"},
    "/api/push": {"POST"},
    "/api/create": {"POST"},
    "/api/copy": {"POST"},
    "/api/delete": {"DELETE"},
    "/api/blobs/sha256:00": {"HEAD", "POST"},
    "/api/me": {"POST"},
    "/api/signout": {"POST"},
    "/api/user/keys/abc": {"DELETE"},
    "/api/experimental/web_search": {"POST"},
    "/api/experimental/web_fetch": {"POST"},
    "/api/experimental/model-recommendations": {"GET"},
    "/v1/chat/completions": {"POST"},
    "/v1/completions": {"POST"},
    "/v1/embeddings": {"POST"},
    "/v1/responses": {"POST"},
    "/v1/models": {"GET"},
    "/v1/models/tinychat:latest": {"GET"},
    "/v1/models/hf.co/user/repo:Q4": {"GET"},
    "/v1/audio/transcriptions": {"POST"},
    "/v1/messages": {"POST"},
    "/docs": {"GET"},
    "/docs/swagger-ui.css": {"GET"},
    "/openapi.json": {"GET"},
}
UNKNOWN = ["/docs/a/b", "/redoc", "/health", "/api", "/v1/nope", "*"]


@pytest.fixture(scope="module")
def table() -> PathTable:
    return path_table()


@pytest.mark.parametrize("path", ROUTES)
def test_every_route_is_there(table: PathTable, path: str) -> None:
    assert table.methods(path) == ROUTES[path]


@pytest.mark.parametrize("path", [*UNKNOWN, "/api/blobs/", "/v1/models/"])
def test_nothing_else_is_there(table: PathTable, path: str) -> None:
    assert not table.methods(path)


@pytest.mark.parametrize(
    ("method", "path", "status", "location"),
    [
        ("GET", "/api/tags/", 301, "/api/tags"),
        ("HEAD", "/api/tags/", 307, "/api/tags"),
        ("POST", "/api/show/", 307, "/api/show"),
        ("GET", "/v1/models/m/", 301, "/v1/models/m"),
        ("GET", "//api/tags", 307, "/api/tags"),
        ("POST", "/api/./show", 307, "/api/show"),
        ("DELETE", "/x/../api/delete", 307, "/api/delete"),
        ("GET", "/api//tags/", 307, "/api/tags/"),
        ("OPTIONS", "/..", 307, "/"),
        ("GET", "/a b/../é", 307, "/%C3%A9"),
        ("GET", "/a/../%c3%a9", 307, "/%c3%a9"),
        ("GET", "/api/tags%2F", 301, "/api/tags"),
    ],
)
def test_redirects(table: PathTable, method: str, path: str, status: int, location: str) -> None:
    redirect = table.redirect(method, path.encode(), "")
    assert redirect is not None
    assert (redirect.status, redirect.location) == (status, location)
    assert bool(redirect.body) == (method == "GET")


def test_redirect_body_and_query(table: PathTable) -> None:
    body = b'<a href="/api/tags?a=1&amp;b=2">Moved Permanently</a>.\n\n'
    assert table.redirect("GET", b"/api/tags/", "a=1&b=2") == Redirect(301, "/api/tags?a=1&b=2", body)


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/api/show/"), ("OPTIONS", "/api/show/"), ("GET", "/nope/"), ("GET", "/"), ("GET", "*")]
    + [("GET", path) for path in ("/api/%2e/tags", "/api/%2E%2e/api/tags", "/%2fapi/tags", "/api/blobs/..%2f..%2fx")],
)
def test_no_redirect(table: PathTable, method: str, path: str) -> None:
    assert table.redirect(method, path.encode(), "") is None


@given(st.lists(st.sampled_from(["", ".", "..", "a", "b.c", "...", "/"])).map(lambda parts: "/" + "/".join(parts)))
def test_a_clean_path_stays(path: str) -> None:
    cleaned = clean_path(path)
    assert clean_path(cleaned) == cleaned
    assert cleaned.startswith("/")
    assert "//" not in cleaned
    assert not {".", ".."} & set(cleaned.split("/"))
    assert cleaned.endswith("/") == (path.endswith("/") or cleaned == "/")


def test_allow_has_a_fixed_order() -> None:
    assert allow_header({"DELETE", "GET", "POST", "HEAD"}) == "HEAD, GET, POST, DELETE"
