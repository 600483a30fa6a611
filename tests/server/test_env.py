"""Environment variables as Ollama reads them."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.loading.sizes import BYTES_PER_VALUE
from engine.runner.context import CACHE_TYPES
from server import env
from server.env import Address


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("1.2.3.4", Address("1.2.3.4")),
        (":1234", Address("", 1234)),
        (":0", Address("", 0)),
        ("0.0.0.0", Address("0.0.0.0")),
        ("example.com", Address("example.com")),
        ("example.com:1", Address("example.com", 1)),
        ("::1", Address("::1")),
        ("[::1]", Address("::1")),
        ("[::1]:2", Address("::1", 2)),
        ("[::]", Address("::")),
        ("http://h", Address("h", 80)),
        ("https://h", Address("h", 443, "https")),
        ("http://h:1/a/b", Address("h", 1, "http", "a/b")),
        ("ollama.com", Address("ollama.com", 443, "https")),
        ("", Address()),
        (" '[::1]:2' ", Address("::1", 2)),
        ("http:// h : 1 /a", Address("h", 1, "http", "a")),
        ("HTTPS://H", Address("H", 443, "https")),
        ("127.0.0.1:", Address()),
        ("[fe80::1%eth0]:1", Address("fe80::1%eth0", 1)),
        ("tcp://h:1", Address("h", 1, "tcp")),
    ],
)
def test_parse_address(text: str, address: Address) -> None:
    assert env.parse_address(text) == address


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("1.2.3.4:65536", Address("1.2.3.4")),
        ("1.2.3.4:-1", Address("1.2.3.4")),
        ("1.2.3.4:x", Address("1.2.3.4")),
        ("https://h:99999", Address("h", 443, "https")),
        (f"h:{'9' * 5000}", Address("h")),
    ],
)
def test_a_port_that_is_none(text: str, address: Address) -> None:
    with pytest.raises(env.Doubtful, match="is no port") as caught:
        env.parse_address(text)
    assert caught.value.value == address


@pytest.mark.parametrize(
    ("address", "url"),
    [
        (Address(), "http://127.0.0.1:11434"),
        (Address("", 1), "http://127.0.0.1:1"),
        (Address("0.0.0.0", 1), "http://127.0.0.1:1"),
        (Address("::", 1), "http://127.0.0.1:1"),
        (Address("0:0::0", 1), "http://127.0.0.1:1"),
        (Address("0", 1), "http://127.0.0.1:1"),
        (Address("::1", 1), "http://[::1]:1"),
        (Address("fd00::1", 1), "http://[fd00::1]:1"),
        (Address("h", 443, "https", "a"), "https://h:443/a"),
    ],
)
def test_url_for_clients(address: Address, url: str) -> None:
    assert address.url == url


@pytest.mark.parametrize(("text", "value"), [(' "5m" ', "5m"), ("'a'", "a"), ("  ", "")])
def test_clean(text: str, value: str) -> None:
    assert env.clean(text) == value


@pytest.mark.parametrize(("text", "value"), [("1", True), ("true", True), ("on", True), ("0", False), ("F", False)])
def test_parse_bool(text: str, value: bool) -> None:
    assert env.parse_bool(text) is value


@pytest.mark.parametrize("parse", [env.parse_bool, env.parse_switch, env.parse_automatic_bool, env.parse_debug])
def test_what_is_no_switch_counts_as_on_and_is_told(parse: Callable[[str], object]) -> None:
    for text in ("banana", "no", "maybe"):
        with pytest.raises(env.Doubtful, match="neither 1 nor 0") as caught:
            parse(text)
        assert caught.value.value is True


def test_automatic_switches() -> None:
    assert [env.parse_automatic_bool(text) for text in ("auto", "1", "0")] == [None, True, False]
    assert [env.parse_tristate(text) for text in ("auto", "1", "0")] == [None, True, False]
    with pytest.raises(env.Doubtful, match="automatic is used") as caught:
        env.parse_tristate("banana")
    assert caught.value.value is None


def test_llama_cpps_words_for_switches() -> None:
    assert [env.parse_switch(text) for text in ("on", "enabled", "off", "Disabled", "0")] == [True, True] + [False] * 3


@pytest.mark.parametrize(("text", "types"), [("Q8_0", "q8_0"), ("q8_0, q4_0", "q8_0,q4_0"), ("iq4_nl", "iq4_nl")])
def test_parse_cache_types(text: str, types: str) -> None:
    assert env.parse_cache_types(text) == types


@pytest.mark.parametrize("text", ["banana", "q5_K", "q8_0,q4_0,f16", "q8_0,", ",q8_0", "q8_0,banana"])
def test_what_is_no_cache_type_is_f16_and_told(text: str) -> None:
    with pytest.raises(env.Doubtful, match=r"none of f16, .*, iq4_nl or two of them, f16 is used") as caught:
        env.parse_cache_types(text)
    assert caught.value.value == "f16"


def test_cache_types_are_those_that_plans_and_processes_know() -> None:
    assert set(env.CACHE_TYPES) == set(BYTES_PER_VALUE) == set(CACHE_TYPES)


@pytest.mark.parametrize(
    ("text", "seconds"), [("5m", 300), ("90", 90), ("0", 0), ("-1", math.inf), ("-5m", math.inf), ("1.5h", 5400)]
)
def test_parse_keep_alive(text: str, seconds: float) -> None:
    assert env.parse_keep_alive(text) == seconds


@pytest.mark.parametrize("text", ["soon", "1.5", ""])
def test_parse_keep_alive_refuses(text: str) -> None:
    with pytest.raises(ValueError, match="invalid literal"):
        env.parse_keep_alive(text)


@pytest.mark.parametrize("text", ["1_000", "\u0663\u0660", "5\u0663"])
def test_times_in_digits_of_another_kind(text: str) -> None:
    with pytest.raises(ValueError, match="time: "):
        env.parse_keep_alive(text)


def test_spans_are_not_negative() -> None:
    assert (env.parse_span("0"), env.parse_span("5m")) == (0, 300)
    for text in ("-1", "-5m"):
        with pytest.raises(env.Doubtful, match="which is negative, 0 is used") as caught:
            env.parse_span(text)
        assert caught.value.value == 0


def test_timeouts_in_which_nothing_can_be_done() -> None:
    assert (env.parse_timeout("10ms"), env.parse_timeout("0"), env.parse_timeout("-1ns")) == (0.01, math.inf, math.inf)
    with pytest.raises(env.Doubtful, match=r"shorter than anything takes, 0\.01 s are used") as caught:
        env.parse_timeout("1ns")
    assert caught.value.value == env.LEAST_TIMEOUT


@pytest.mark.parametrize("text", ["9" * 400, "-" + "9" * 400, "9" * 5000])
def test_times_that_no_clock_shows(text: str) -> None:
    with pytest.raises(ValueError, match=r"must be a time|Exceeds the limit"):
        env.parse_keep_alive(text)


def test_parse_header() -> None:
    assert env.parse_header("0.33.0") == "0.33.0"
    for text in ("é", "a\nb"):
        with pytest.raises(ValueError, match="printable ASCII"):
            env.parse_header(text)


def test_parse_timeout_takes_zero_for_no_limit() -> None:
    assert env.parse_timeout("0") == env.parse_timeout("-3s") == math.inf
    assert env.parse_timeout("2s") == 2


@pytest.mark.parametrize(("text", "level"), [("1", 1), ("true", 1), ("0", 0), ("false", 0), ("2", 2), ("yes", 1)])
def test_parse_debug(text: str, level: int) -> None:
    assert env.parse_debug(text) == level


def test_parse_log_format() -> None:
    assert (env.parse_log_format("JSON"), env.parse_log_format("text")) == ("json", "text")
    with pytest.raises(ValueError, match="must be text or json"):
        env.parse_log_format("yaml")


@pytest.mark.parametrize("text", ["-1", "1.0", "x", "٣", "", "9223372036854775808"])
def test_parse_uint_refuses(text: str) -> None:
    with pytest.raises(ValueError, match="whole number"):
        env.parse_uint(text)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("a:1", ("a", "1")),
        ("[::1]:2", ("::1", "2")),
        (":3", ("", "3")),
        ("[::1]", None),
        ("::1", None),
        ("a", None),
        ("[a]b:1", None),
    ],
)
def test_split_host_port(text: str, parts: tuple[str, str] | None) -> None:
    assert env.split_host_port(text) == parts


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("/var/cache/pronk:20GiB", 20 << 30),
        ("/var/cache/pronk:20G", 20 << 30),
        ("/var/cache/pronk:20gb", 20 * 10**9),
        ("/var/cache/pronk:1.5 GiB", 3 << 29),
        ("/var/cache/pronk:4096", 4096),
        ("/var/cache/pronk:2K", 2048),
        ("/var/cache/pronk:7B", 7),
    ],
)
def test_a_folder_and_a_size(text: str, size: int) -> None:
    assert env.parse_folder_and_size(text) == (Path("/var/cache/pronk"), size)


def test_a_folder_below_home_or_with_a_colon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ada")
    assert env.parse_folder_and_size("~/prompts:1K") == (Path("/home/ada/prompts"), 1024)
    assert env.parse_folder_and_size("/a:b:1K") == (Path("/a:b"), 1024)
    assert env.parse_folder_and_size("/a:0") is None


@pytest.mark.parametrize(
    "text", ["/var/cache/pronk", "20GiB", "cache:20GiB", ":20GiB", "/a:", "/a:-1", "/a:lots", "/a:1e9"]
)
def test_no_folder_and_size(text: str) -> None:
    with pytest.raises(ValueError, match="must be"):
        env.parse_folder_and_size(text)
