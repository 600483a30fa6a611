"""Bodies that are read in slices: the same values, and bounds that hold before there are any."""

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from server.http import json_input
from server.http.errors import BodyTooLarge
from server.http.json_input import MAX_CONTAINERS, MAX_DEPTH, MAX_SHORT, MAX_VALUES, JSONError, JSONReader

LIMIT = 64 << 20
PIECE = 256 << 10


@pytest.fixture
def small_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"SLICE": 32, "_SMALL": 0, "_AT_ONCE": 0, "_LONG": 8}.items():
        monkeypatch.setattr(json_input, name, value)


def read(body: bytes, piece: int = PIECE, limit: int = LIMIT) -> Any:
    """The value of a body that arrives in pieces of this many bytes."""
    reader = JSONReader(limit)
    for start in range(0, len(body), piece):
        reader.feed(body[start : start + piece])
    return reader.value()


texts = st.text(st.sampled_from('ab"\\\né中😀\u2028{}[]:,'), max_size=120)
values = st.recursive(
    st.none() | st.integers() | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)


@pytest.mark.usefixtures("small_slices")
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(values, st.booleans(), st.integers(1, 100))
def test_slices_change_nothing(value: Any, ascii_only: bool, piece: int) -> None:
    assert read(json.dumps(value, ensure_ascii=ascii_only).encode(), piece) == value


@pytest.mark.usefixtures("small_slices")
@pytest.mark.parametrize("text", [rb"\\", rb"\"", rb"\u4e2d", rb"\ud83d\ude00", "😀é中".encode(), rb"\\\ud83d\ude00\n"])
@pytest.mark.parametrize("offset", range(16))
def test_no_escape_and_no_character_is_cut(text: bytes, offset: int) -> None:
    body = b'{"a":"' + b"x" * offset + text * 40 + b'","b":[1]}'
    assert read(body, 7) == json.loads(body)


@pytest.mark.usefixtures("small_slices")
def test_what_is_broken_in_a_long_text() -> None:
    assert read(b'"' + rb"\ud83d x" * 30 + b'"') == "\ufffd x" * 30
    assert read(b'"' + b"\xff\xe2\x82 abcdefgh" * 30 + b'"') == "\ufffd\ufffd\ufffd abcdefgh" * 30
    with pytest.raises(JSONError, match=r"^invalid character '\\n'"):
        read(b'"' + b"x" * 50 + b"\n" + b"x" * 50 + b'"')
    with pytest.raises(JSONError, match=r"^unexpected EOF$"):
        read(b'["' + b"x" * 500)


@pytest.mark.usefixtures("small_slices")
def test_long_keys_come_back_too() -> None:
    body = {"k" * 100: {"x" * 90: "y" * 80}}
    assert read(json.dumps(body).encode()) == body


def nested(depth: int, filler: int) -> bytes:
    return b'[" ' + b"x" * filler + b' ",' + b"[" * (depth - 1) + b"]" * depth


@pytest.mark.parametrize("filler", [0, 5 << 20])
def test_depth(filler: int) -> None:
    assert read(nested(MAX_DEPTH, filler))
    with pytest.raises(JSONError, match=r"^exceeded max depth$"):
        read(nested(MAX_DEPTH + 1, filler))


def repeated(unit: bytes, count: int, rest: bytes = b"") -> bytes:
    """A list of this many equal values."""
    return b"[" + b",".join([unit] * count) + rest + b"]"


@pytest.mark.parametrize("rest", [b"", b"!"], ids=["whole", "broken at its end"])
@pytest.mark.parametrize(
    ("unit", "count", "what"),
    [
        (b"[]", MAX_CONTAINERS, "objects and lists"),
        (b"{}", MAX_CONTAINERS, "objects and lists"),
        (b'{"a":0}', MAX_CONTAINERS, "objects and lists"),
        (b"0", MAX_VALUES + 1, "values"),
        (b'""', MAX_VALUES + 1, "values"),
        (b'"' + b"x" * 300 + b'"', (MAX_SHORT >> 8), "bytes beside long texts"),
    ],
    ids=["lists", "objects", "full objects", "numbers", "texts", "short texts"],
)
def test_a_body_beyond_a_bound(unit: bytes, count: int, what: str, rest: bytes) -> None:
    with pytest.raises(JSONError, match=rf"^request body too complex: at most \d+ {what} are accepted$"):
        read(repeated(unit, count, rest))


@pytest.mark.parametrize(
    ("unit", "count"),
    [(b"[]", MAX_CONTAINERS - 1), (b"0", MAX_VALUES - 1), (b'"' + b"\\n" * 300 + b'"', 30_000)],
    ids=["lists", "numbers", "texts"],
)
def test_a_body_at_a_bound(unit: bytes, count: int) -> None:
    assert read(repeated(unit, count)) == [json.loads(unit)] * count


def test_brackets_in_a_text_are_no_values() -> None:
    assert read(b'["' + b"[{,:" * 500_000 + b'"]') == ["[{,:" * 500_000]


def test_a_text_whose_characters_take_more_memory_than_the_limit() -> None:
    """One wide character makes all others of its text as wide."""
    text = b"x" * (20 << 20)
    assert read(b'"' + text + b'"')
    mixed = ("x" * 65_000 + "😀").encode() * 600
    for body in (text + "😀".encode(), rb"\ud83d\ude00" + text, mixed):
        with pytest.raises(JSONError, match=r"^request body too large: its texts take more than"):
            read(b'["' + body + b'"]')


def test_size() -> None:
    assert read(b'"' + b"x" * 98 + b'"', limit=100)
    with pytest.raises(BodyTooLarge):
        read(b'"' + b"x" * 99 + b'"', limit=100)
