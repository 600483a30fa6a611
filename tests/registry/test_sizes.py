"""Sizes in bytes as text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.sizes import binary_size, decimal_size, short_size


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1 KB"),
        (1500, "1.5 KB"),
        (4_401_600, "4.4 MB"),
        (13_000_001, "13 MB"),
        (4_700_000_000, "4.7 GB"),
        (2 * 10**12, "2 TB"),
    ],
)
def test_short_sizes(count: int, text: str) -> None:
    assert short_size(count) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 KB"), (4_700_000_000, "4.7 GB"), (13 * 10**12, "13.0 TB")],
)
def test_decimal_sizes(count: int, text: str) -> None:
    assert decimal_size(count) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 bytes"), (2047, "2047 bytes"), (1 << 20, "1.0 MiB"), (3 << 29, "1.5 GiB"), (1 << 40, "1.0 TiB")],
)
def test_binary_sizes(count: int, text: str) -> None:
    assert binary_size(count) == text


@given(st.integers(0, 10**15))
def test_a_size_is_never_overstated(count: int) -> None:
    value, unit = short_size(count).split()
    scale = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}[unit]
    assert abs(float(value) * scale - count) <= scale
