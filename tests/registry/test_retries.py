"""What is tried again, how often, and after how long."""

import pytest

from registry.errors import (
    AccessDenied,
    BadAnswer,
    BadStatus,
    NotFound,
    RegistryError,
    Stalled,
    StoreError,
    Unreachable,
    Untrusted,
)
from registry.retries import Retries, RetriesExceeded, is_temporary


@pytest.mark.parametrize(
    "error",
    [Unreachable("x"), Stalled("x"), BadAnswer("x"), BadStatus(500, "x"), BadStatus(503, "x"), BadStatus(429, "x")],
)
def test_what_may_do_better_later(error: RegistryError) -> None:
    assert is_temporary(error)


@pytest.mark.parametrize(
    "error", [Untrusted("x"), AccessDenied(), NotFound(), BadStatus(400, "x"), BadStatus(416, "x")]
)
async def test_what_is_final(error: RegistryError) -> None:
    assert not is_temporary(error)
    with pytest.raises(type(error)):
        await Retries().after(1, error)


async def test_the_pauses() -> None:
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    retries = Retries(sleep=sleep)
    for failures in range(1, 6):
        await retries.after(failures, Unreachable("cut"))
    with pytest.raises(RetriesExceeded, match="max retries exceeded: cut"):
        await retries.after(6, Unreachable("cut"))
    assert pauses == [1, 2, 4, 8, 16]
    assert not issubclass(RetriesExceeded, StoreError)
