"""Values that Go's recorded answers cannot show: structs, pointers, bytes, methods."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from modelfile.gotemplate.fmt_scalars import Directive
from modelfile.gotemplate.limits import DEFAULT_LIMITS, Budget, Buffer
from modelfile.gotemplate.printf import show, write
from modelfile.gotemplate.values import (
    ANY,
    FLOAT64,
    INT,
    STRING,
    UINT8,
    Member,
    PointerType,
    SliceType,
    StructType,
    Value,
    string,
)


@dataclass
class Point:
    x: int = 1
    label: str = "a b"
    extra: object = None


KIND = SliceType("main.Kind", STRING, methods={"String": lambda value, budget: string("+".join(value.data))})
POINT = StructType(
    "main.Point", (Member("X", INT, "x"), Member("Label", STRING, "label"), Member("Extra", ANY, "extra"))
)
POINTER = PointerType("*main.Point", POINT)


def shown(value: Value, verb: str = "v") -> str:
    return show(value, Budget(DEFAULT_LIMITS), verb)


@pytest.mark.parametrize(
    ("directive", "text"),
    [
        (Directive(), "{1 a b <nil>}"),
        (Directive(names=True), "{X:1 Label:a b Extra:<nil>}"),
        (Directive(syntax=True), 'main.Point{X:1, Label:"a b", Extra:interface {}(nil)}'),
        (Directive("d"), "{1 %!d(string=a b) <nil>}"),
        (Directive("q"), "{'\\x01' \"a b\" <nil>}"),
        (Directive("T", width=12), "  main.Point"),
        (Directive("w"), "%!w(main.Point={1 a b <nil>})"),
    ],
)
def test_structs(directive: Directive, text: str) -> None:
    buffer = Buffer(Budget(DEFAULT_LIMITS))
    write(Value(POINT, Point()), directive, buffer)
    assert buffer.text() == text


def test_pointers_show_what_they_point_to() -> None:
    assert shown(Value(POINTER, Point())) == "&{1 a b <nil>}"
    assert shown(Value(POINTER, None)) == "<nil>"
    assert shown(Value(SliceType("[]*main.Point", POINTER), [Point(2)])) == "[&{2 a b <nil>}]"


def test_string_methods_are_asked() -> None:
    kind = Value(KIND, ["a", "b"])
    assert shown(kind) == "a+b"
    assert shown(kind, "q") == '"a+b"'
    assert shown(kind, "d") == "[%!d(string=a) %!d(string=b)]"
    assert shown(Value(SliceType("[]main.Kind", KIND), [["a"], ["b", "c"]])) == "[a b+c]"


def test_bytes() -> None:
    image = Value(SliceType("api.ImageData", UINT8), b"AB")
    assert [shown(image, verb) for verb in "vsxq"] == ["[65 66]", "AB", "4142", '"AB"']


def test_numbers_that_are_none() -> None:
    buffer = Buffer(Budget(DEFAULT_LIMITS))
    for number in (float("inf"), float("-inf"), float("nan")):
        for directive in (Directive(), Directive(plus=True), Directive(space=True), Directive(width=6, zero=True)):
            write(Value(FLOAT64, number), directive, buffer)
            buffer.write("|")
    assert buffer.text() == "+Inf|+Inf| Inf|  +Inf|-Inf|-Inf|-Inf|  -Inf|NaN|+NaN| NaN|   NaN|"
