"""Common beginnings."""

from array import array

from hypothesis import given
from hypothesis import strategies as st

from engine.runner.kvcache import CHUNK, common_prefix


@given(st.integers(0, 3 * CHUNK), st.integers(0, 300), st.integers(0, 300), st.integers(0, 4 * CHUNK))
def test_it_is_as_long_as_it_is_equal(same: int, left: int, right: int, limit: int) -> None:
    a = array("i", [7] * same + [1] * left)
    b = array("i", [7] * same + [2] * right)
    assert common_prefix(a, b, limit) == min(same, limit)


def test_the_arrays_can_grow_afterwards() -> None:
    a, b = array("i", [1, 2]), array("i", [1, 3])
    common_prefix(a, b, 2)
    a.append(4)
    assert common_prefix(a, a, 9) == 3
