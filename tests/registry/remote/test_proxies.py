"""Proxies of an environment."""

import pytest

from registry.remote.proxies import Proxies, Proxy, UnusableProxy

ENVIRON = {"HTTPS_PROXY": "http://proxy:3128", "http_proxy": "plain:8080"}


def chosen(host: str, no_proxy: str = "", scheme: str = "https", port: int | None = None) -> str | None:
    proxy = Proxies.from_env({**ENVIRON, "NO_PROXY": no_proxy}).of(scheme, host, port)
    return None if proxy is None else proxy.url


def test_each_scheme_has_its_own() -> None:
    assert chosen("registry.ollama.ai") == "http://proxy:3128"
    assert chosen("registry.ollama.ai", scheme="http") == "http://plain:8080"
    assert Proxies.from_env({"HTTPS_PROXY": " "}).of("https", "a.b", None) is None


def test_capital_letters_win() -> None:
    environ = {"HTTPS_PROXY": "http://large", "https_proxy": "http://small"}
    assert Proxies.from_env(environ).of("https", "a.b", None) == Proxy("http", "large", 80)


def test_one_for_all() -> None:
    environ = {"all_proxy": "socks5://all", "HTTPS_PROXY": "http://https"}
    proxies = Proxies.from_env(environ)
    assert proxies.of("http", "a.b", None) == Proxy("socks5", "all", 1080)
    assert proxies.of("https", "a.b", None) == Proxy("http", "https", 80)


@pytest.mark.parametrize(
    ("text", "proxy"),
    [
        ("h:1", Proxy("http", "h", 1)),
        ("HTTPS://h", Proxy("https", "h", 443)),
        ("socks5h://h", Proxy("socks5h", "h", 1080)),
        ("socks://h:1", Proxy("socks5", "h", 1)),
        ("http://u%40x:p%3A@[::1]:8/", Proxy("http", "::1", 8, ("u@x", "p:"))),
        ("http://u@h", Proxy("http", "h", 80, ("u", ""))),
    ],
)
def test_how_a_proxy_is_written(text: str, proxy: Proxy) -> None:
    assert Proxy.parse(text) == proxy
    assert "p:" not in repr(proxy)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("socks4://h", 'unsupported proxy scheme "socks4"'),
        ("://h", 'unsupported proxy scheme ""'),
        *((text, "is no address") for text in ("http://", "http://h:port", "http://[::1", "http://a b", "\x01", "é")),
        (f"socks5://u:{'x' * 256}@h", "more than 255 bytes"),
    ],
)
def test_what_is_no_proxy(text: str, reason: str) -> None:
    proxies = Proxies.from_env({"HTTPS_PROXY": text})
    with pytest.raises(UnusableProxy, match=reason):
        proxies.of("https", "a.example", None)
    assert proxies.of("https", "127.0.0.1", None) is None
    [warning] = proxies.warnings
    assert reason in warning


@pytest.mark.parametrize(
    "host",
    ["localhost", "LOCALHOST.", "a.localhost", "127.0.0.1", "127.1.2.3", "::1", "::ffff:127.0.0.1", "0.0.0.0", "::"],
)
def test_this_machine_is_reached_without(host: str) -> None:
    assert chosen(host) is None


@pytest.mark.parametrize(
    ("no_proxy", "host"),
    [
        ("*", "a.example"),
        ("example", "a.example"),
        ("x, A.EXAMPLE ,y", "a.example"),
        (".example", "a.example"),
        ("*.example", "a.example"),
        ("a.example", "a.example."),
        ("a.example:443", "a.example"),
        ("10.1.2.3", "10.1.2.3"),
        ("10.1.0.0/16", "10.1.2.3"),
        ("[fd00::1]:443", "fd00::1"),
        ("fd00::/8", "fd00::1"),
        ("[fd00::1]", "fd00::1"),
        ("x a.example", "a.example"),
    ],
)
def test_exceptions(no_proxy: str, host: str) -> None:
    assert chosen(host, no_proxy) is None


@pytest.mark.parametrize(
    ("no_proxy", "host"),
    [
        ("ample", "a.example"),
        (".example", "example"),
        ("a.example:80", "a.example"),
        ("10.1.0.0/16", "10.2.0.1"),
        ("10.1.0.0/16", "a.example"),
        (",", "a.example"),
        (".", "a.example"),
        ("a.example:x", "a.example"),
        ("http://[::1", "a.example"),
        ("10.1.0.0/99", "10.1.0.1"),
    ],
)
def test_no_exceptions(no_proxy: str, host: str) -> None:
    assert chosen(host, no_proxy) == "http://proxy:3128"


def test_a_port_of_its_own() -> None:
    assert chosen("a.example", "a.example:5000", port=5000) is None
    assert chosen("a.example", "a.example:5000", port=5001) is not None
