"""Blobs divided into parts, and divided again after a crash."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.storage.partials import DIVISION, Division, Part, completed_list

MEGA = 1_000_000


@pytest.mark.parametrize(
    ("total", "sizes"),
    [
        (0, []),
        (1, [1]),
        (100 * MEGA, [100 * MEGA]),
        (250 * MEGA, [100 * MEGA, 100 * MEGA, 50 * MEGA]),
        (1600 * MEGA, [100 * MEGA] * 16),
        (1616 * MEGA, [101 * MEGA] * 16),
        (20_000 * MEGA, [1000 * MEGA] * 20),
    ],
)
def test_the_parts_of_ollama(total: int, sizes: list[int]) -> None:
    parts = DIVISION.of(total)
    assert [part.size for part in parts] == sizes
    assert [part.offset for part in parts] == [sum(sizes[:number]) for number in range(len(sizes))]
    assert [part.number for part in parts] == list(range(len(sizes)))


def test_the_file_of_ollama() -> None:
    part = Part(number=2, offset=7, size=5)
    assert msgspec.json.encode(part) == b'{"N":2,"Offset":7,"Size":5,"Completed":0}'
    part.completed = 3
    assert (part.start, part.end, part.left) == (10, 12, 2)


@pytest.mark.parametrize("text", ["{}", '{"N":-1,"Offset":0,"Size":1}', '{"N":0,"Offset":0,"Size":1e99}', "", "[1"])
def test_what_is_no_part(text: str) -> None:
    with pytest.raises(msgspec.DecodeError):
        msgspec.json.decode(text, type=Part)


SAVED = st.builds(
    Part, number=st.integers(0, 20), offset=st.integers(0, 120), size=st.integers(0, 60), completed=st.integers(0, 10)
)


@given(st.lists(SAVED, unique_by=lambda part: part.number), st.integers(0, 100))
def test_whatever_was_saved_the_parts_cover_the_blob(saved: list[Part], total: int) -> None:
    parts = completed_list(saved, total)
    assert [part.offset for part in parts] == [0, *(part.end for part in parts)][: len(parts)]
    assert sum(part.size for part in parts) == total
    assert len({part.number for part in parts}) == len(parts)
    assert all(part in saved or not part.completed for part in parts)


def test_parts_that_fit_are_kept() -> None:
    saved = Division(count=3, smallest=10, largest=100).of(95)
    saved[1].completed = 9
    assert completed_list(reversed(saved), 95) == saved
    assert completed_list([saved[1]], 95) == [
        Part(number=2, offset=0, size=31),
        saved[1],
        Part(number=3, offset=62, size=33),
    ]
