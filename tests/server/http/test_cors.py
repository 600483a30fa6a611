"""Which web pages may call."""

import pytest

from server.http.cors import InvalidOrigin, Origins


@pytest.mark.parametrize(
    "origin",
    [
        "http://localhost",
        "https://localhost:3000",
        "http://127.0.0.1:1",
        "https://0.0.0.0",
        "app://x",
        "file://",
        "tauri://localhost",
        "vscode-webview://abc",
    ],
)
def test_allowed_without_settings(origin: str) -> None:
    assert Origins().allows(origin)


@pytest.mark.parametrize(
    "origin",
    [
        "http://evil.example",
        "null",
        "http://localhost.evil.example",
        "chrome-extension://a",
        "http://127.0.0.10",
        "http://localhost:8080.evil.example",
        "http://localhost:",
        "http://localhost:80@evil.example",
        "http://localhost:123456",
        "https://127.0.0.1:80.evil.example",
        "http://localhost:80, http://evil.example",
        "http://localhost:80/",
        "app://x@evil.example/",
        "xapp://y",
    ],
)
def test_refused_without_settings(origin: str) -> None:
    assert not Origins().allows(origin)


def test_extra_origins() -> None:
    origins = Origins(("http://a.example", "https://*.b.example", "chrome-extension://*"))
    assert origins.allows("http://a.example")
    assert origins.allows("https://x.y.b.example")
    assert origins.allows("chrome-extension://abc")
    assert not origins.allows("http://x.b.example")
    assert origins.allows("http://localhost:1")


@pytest.mark.parametrize(
    ("entry", "allowed", "refused"),
    [
        ("http://*", ["http://a.example:1", "http://[::1]:80"], ["https://a.example", "http://a.example/x"]),
        ("http://192.168.1.*", ["http://192.168.1.7", "http://192.168.1.7:3000"], ["http://192.168.1.evil.example"]),
        ("http://a.example:*", ["http://a.example:80"], ["http://a.example:80.evil.example", "http://a.example"]),
        ("https://*.b.example", ["https://x.y.b.example"], ["https://evil.example/.b.example", "https://b.example"]),
        ("http://*:3000", ["http://a.example:3000"], ["http://a.example:30000", "http://a:1:3000"]),
        ("*://a.example", ["http://a.example", "capacitor://a.example"], ["http://x.a.example"]),
        ("*.b.example", ["http://x.b.example", "https://y.b.example"], ["http://b.example.evil"]),
        ("moz-extension://*", ["moz-extension://a-b-c"], ["chrome-extension://a"]),
    ],
)
def test_a_star_stands_for_a_part(entry: str, allowed: list[str], refused: list[str]) -> None:
    origins = Origins((entry,))
    assert [origin for origin in allowed if not origins.allows(origin)] == []
    assert [origin for origin in refused if origins.allows(origin)] == []


@pytest.mark.parametrize("entry", ["a.example", "ftp://a", "http://*.*"])
def test_bad_entries(entry: str) -> None:
    with pytest.raises(InvalidOrigin):
        Origins((entry,))


def test_no_origin_or_the_own_one_is_no_cors() -> None:
    for origin in ("", "http://evil.example:1", "https://evil.example:1"):
        assert Origins().check("GET", origin, "evil.example:1").status is None
        assert not Origins().check("OPTIONS", origin, "evil.example:1").headers


def test_verdicts() -> None:
    origins = Origins()
    assert origins.check("POST", "http://evil.example", "h").status == 403
    assert origins.check("OPTIONS", "http://evil.example", "h").status == 403
    plain = origins.check("GET", "app://x", "h")
    assert (plain.status, plain.headers) == (
        None,
        [(b"access-control-allow-origin", b"app://x"), (b"vary", b"Origin")],
    )
    preflight = origins.check("OPTIONS", "app://x", "h")
    assert preflight.status == 204
    headers = dict(preflight.headers)
    assert headers[b"access-control-max-age"] == b"43200"
    assert headers[b"access-control-allow-methods"] == b"GET,POST,PUT,PATCH,DELETE,HEAD,OPTIONS"
    assert headers[b"access-control-allow-headers"].startswith(b"Authorization,Content-Type,User-Agent,Accept,")
    assert b",X-Stainless-Runtime-Version,X-Stainless-Timeout," in headers[b"access-control-allow-headers"]
    assert [value for name, value in preflight.headers if name == b"vary"] == [
        b"Origin",
        b"Access-Control-Request-Method",
        b"Access-Control-Request-Headers",
    ]


def test_a_star_allows_all() -> None:
    origins = Origins(("*",))
    assert origins.check("GET", "http://evil.example", "h").headers == [(b"access-control-allow-origin", b"*")]
    preflight = origins.check("OPTIONS", "http://evil.example", "h")
    assert dict(preflight.headers)[b"access-control-allow-origin"] == b"*"
    assert b"vary" not in dict(preflight.headers)


def test_pages_may_send_what_the_official_clients_send() -> None:
    """The headers that OpenAI's and Anthropic's clients add in a browser."""
    headers = dict(Origins().check("OPTIONS", "app://x", "h").headers)
    allowed = headers[b"access-control-allow-headers"].decode().lower().split(",")
    stainless = ("arch", "helper", "helper-method", "lang", "os", "retry-count", "runtime", "runtime-version")
    sent = [
        *("accept", "authorization", "content-type", "idempotency-key", "user-agent"),
        *("openai-beta", "openai-organization", "openai-project"),
        *("anthropic-beta", "anthropic-dangerous-direct-browser-access", "anthropic-version", "x-api-key"),
        *(f"x-stainless-{name}" for name in (*stainless, "package-version", "timeout")),
    ]
    assert [name for name in sent if name not in allowed] == []
    assert len(set(allowed)) == len(allowed)
