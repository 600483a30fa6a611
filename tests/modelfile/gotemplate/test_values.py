"""Values and their types."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import pytest

from modelfile.gotemplate.limits import DEFAULT_LIMITS, Budget
from modelfile.gotemplate.values import (
    ANY,
    ANY_MAP,
    ANY_SLICE,
    BOOL,
    FLOAT64,
    INT,
    NO_VALUE,
    STRING,
    GoType,
    MapType,
    Member,
    PointerType,
    SliceType,
    StructType,
    Value,
    value_of,
)


@dataclass
class Pair:
    first: str = ""
    rest: tuple[str, ...] = ()


PAIR = StructType(
    "main.Pair", (Member("First", STRING, "first"), Member("Rest", SliceType("[]string", STRING), "rest")), zero=Pair()
)


@pytest.mark.parametrize(
    ("data", "type_"), [("a", STRING), (True, BOOL), (1, FLOAT64), (1.5, FLOAT64), ([], ANY_SLICE), ({}, ANY_MAP)]
)
def test_json_has_types(data: Any, type_: GoType) -> None:
    assert value_of(data).type is type_


def test_what_is_no_json() -> None:
    assert value_of(None) is NO_VALUE
    assert value_of(10**400).data == math.inf
    assert value_of(Value(INT, 1)) == Value(INT, 1)
    with pytest.raises(TypeError, match="not JSON: object"):
        value_of(object())


@pytest.mark.parametrize(
    ("value", "truth"),
    [
        (NO_VALUE, False),
        (Value(ANY, None), False),
        (Value(ANY, ""), False),
        (Value(ANY, 0), False),
        (Value(ANY, []), False),
        (Value(ANY, {"a": None}), True),
        (Value(INT, -1), True),
        (Value(PAIR, Pair()), True),
        (Value(PointerType("*main.Pair", PAIR), None), False),
        (Value(PointerType("*main.Pair", PAIR), Pair()), True),
    ],
)
def test_truth(value: Value, truth: bool) -> None:
    assert value.truth is truth


def test_interfaces_and_pointers_are_followed() -> None:
    pair = Pair("a")
    pointer = Value(PointerType("*main.Pair", PAIR), pair)
    assert Value(ANY, pointer).indirect() == Value(PAIR, pair)
    assert Value(ANY, pointer).held() == pointer
    assert Value(ANY, None).indirect().dead_end
    assert not NO_VALUE.dead_end


def test_what_json_leaves_out() -> None:
    assert Value(ANY, None).empty
    assert not Value(ANY, "").empty
    assert Value(STRING, "").empty
    assert not Value(PAIR, Pair()).empty


def test_elements_that_are_not_there() -> None:
    pairs = MapType("map[string]main.Pair", PAIR)
    assert Value(pairs, None).element("a") == Value(PAIR, Pair())
    assert Value(ANY_MAP, {"a": 1}).element("b") == Value(ANY, None)


def test_an_empty_tuple_is_a_nil_slice() -> None:
    (first, rest) = PAIR.members
    assert rest.of(Pair("a")).data is None
    assert rest.of(Pair("a", ("b",))).data == ("b",)
    assert first.of(Pair("a")) == Value(STRING, "a")
    assert PAIR.member("first") is None


def test_the_order_of_keys() -> None:
    budget = Budget(DEFAULT_LIMITS)
    assert ANY_MAP.keys({"b": 1, "a": 2}, budget) == ["a", "b"]
    assert MapType("main.Ordered", ANY, ordered=True).keys({"b": 1, "a": 2}, budget) == ["b", "a"]


def test_length_is_in_bytes() -> None:
    assert Value(STRING, "héé").length == 5
    assert Value(ANY_SLICE, None).length == 0
