"""Proxies of an environment."""

import pytest

from registry.proxies import Proxies

ENVIRON = {"HTTPS_PROXY": "http://proxy:3128", "http_proxy": "plain:8080"}


def chosen(host: str, no_proxy: str = "", scheme: str = "https", port: int | None = None) -> str | None:
    return Proxies.from_env({**ENVIRON, "NO_PROXY": no_proxy}).of(scheme, host, port)


def test_each_scheme_has_its_own() -> None:
    assert chosen("registry.ollama.ai") == "http://proxy:3128"
    assert chosen("registry.ollama.ai", scheme="http") == "http://plain:8080"
    assert Proxies.from_env({"HTTPS_PROXY": " "}).of("https", "a.b", None) is None


def test_capital_letters_win() -> None:
    environ = {"HTTPS_PROXY": "http://large", "https_proxy": "http://small"}
    assert Proxies.from_env(environ).of("https", "a.b", None) == "http://large"


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST", "127.0.0.1", "127.1.2.3", "::1"])
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
    ],
)
def test_no_exceptions(no_proxy: str, host: str) -> None:
    assert chosen(host, no_proxy) == "http://proxy:3128"


def test_a_port_of_its_own() -> None:
    assert chosen("a.example", "a.example:5000", port=5000) is None
    assert chosen("a.example", "a.example:5000", port=5001) is not None
