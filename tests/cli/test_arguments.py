"""The command line as typed, and the values of its flags."""

import pytest

from cli.arguments import (
    CommandError,
    at_least,
    at_most,
    exactly,
    parse_format,
    parse_think,
    parse_truncate,
    with_values,
)


def test_think_stands_alone() -> None:
    assert with_values(["run", "m", "--think", "hello"]) == ["run", "m", "--think=true", "hello"]
    assert with_values(["run", "m", "--think=false"]) == ["run", "m", "--think=false"]
    assert with_values(["run", "m", "--truncate", "hello"]) == ["run", "m", "--truncate=true", "hello"]
    assert with_values(["run", "m", "--", "--think"]) == ["run", "m", "--", "--think"]


def test_counts() -> None:
    assert exactly(2, ["a", "b"]) == ["a", "b"]
    assert at_least(1, ["a", "b"]) == ["a", "b"]
    assert at_most(1, []) == []
    with pytest.raises(CommandError, match=r"accepts 1 arg\(s\), received 2"):
        exactly(1, ["a", "b"])


@pytest.mark.parametrize(("text", "value"), [("true", True), ("false", False), ("high", "high"), ("max", "max")])
def test_think(text: str, value: bool | str) -> None:
    assert parse_think(text) == value


@pytest.mark.parametrize("text", ["", "1", "True", "yes"])
def test_no_think(text: str) -> None:
    with pytest.raises(CommandError):
        parse_think(text)


def test_truncate() -> None:
    assert parse_truncate("true") is True
    assert parse_truncate("false") is False
    with pytest.raises(CommandError, match='invalid value for --truncate: "1"'):
        parse_truncate("1")


def test_format() -> None:
    assert parse_format("") is None
    assert parse_format("json") == "json"
    assert parse_format('{"type": "object"}') == {"type": "object"}


@pytest.mark.parametrize("text", ["xml", "{", "[]", "1"])
def test_no_format(text: str) -> None:
    with pytest.raises(CommandError):
        parse_format(text)
