"""What is tried again, how often, and after how long."""

import asyncio
from contextlib import aclosing

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
from registry.remote.retries import Attempts, Retries, RetriesExceeded, Waiting, WatchedOperation, is_temporary
from registry.remote.transport import retry_after


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
        await Attempts(Retries()).failed(error)


async def test_the_pauses() -> None:
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    attempts = Attempts(Retries(sleep=sleep))
    for _ in range(5):
        await attempts.failed(Unreachable("cut"))
    with pytest.raises(RetriesExceeded, match="max retries exceeded: cut"):
        await attempts.failed(Unreachable("cut"))
    assert pauses == [1, 2, 4, 8, 16]
    attempts.succeeded()
    await attempts.failed(Unreachable("cut"))
    assert pauses[5:] == [1]
    assert not issubclass(RetriesExceeded, StoreError)


async def test_a_registry_that_is_busy_gets_more_patience() -> None:
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    waiting = Waiting()
    attempts = Attempts(Retries(sleep=sleep, patience=900), waiting)
    for asked in (None, 0.0, 120.0):
        await attempts.failed(BadStatus(429, "slow down", asked))
    assert pauses == [1, 2, 120]
    assert (waiting.status, waiting.count) == ("registry is busy (429), trying again in 120s", 3)
    with pytest.raises(RetriesExceeded, match=r"503: x \(it asks to be left alone for 800 seconds\)"):
        await attempts.failed(BadStatus(503, "x", 800.0))
    with pytest.raises(RetriesExceeded):  # noqa: PT012
        while True:
            await attempts.failed(BadStatus(503, "x"))
    assert 840 < sum(pauses) <= 900
    assert max(pauses[3:]) == 60


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": " 30 "}, 30),
        ({"retry-after": "9" * 400}, 999_999_999),
        ({"retry-after": "Thu, 01 Jan 1970 00:20:00 GMT"}, 200),
        ({"retry-after": "Thursday, 01-Jan-70 00:20:00 GMT"}, 200),
        ({"retry-after": "Thu, 01 Jan 1970 00:00:00 GMT"}, 0),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "soon", "ratelimit": '"api";r=0;t=5'}, None),
        ({"ratelimit": '"api";r=0;t=55'}, 55),
        ({"ratelimit": '"api";r=10;t=55'}, None),
        ({"ratelimit": "x"}, None),
    ],
)
def test_how_long_a_registry_asks_us_to_wait(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers, lambda: 1000.0) == seconds


async def test_whoever_leaves_while_it_waits_waits_no_longer() -> None:
    ended = asyncio.Event()

    async def work() -> None:
        try:
            await Attempts(Retries(), waiting).failed(BadStatus(429, "x", 300.0))
        finally:
            ended.set()

    waiting = Waiting()
    async with asyncio.timeout(60), aclosing(WatchedOperation(work(), waiting).steps()) as steps:
        assert await anext(steps) == {"status": "registry is busy (429), trying again in 300s"}
    assert ended.is_set()
