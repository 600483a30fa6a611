"""Tasks that end together."""

import asyncio

import pytest

from registry.tasks import task_group


async def test_all_are_awaited() -> None:
    done: list[int] = []

    async def work(number: int) -> None:
        await asyncio.sleep(0)
        done.append(number)

    async with task_group() as tasks:
        tasks += [asyncio.create_task(work(number)) for number in range(3)]
    assert done == [0, 1, 2]


async def test_one_that_fails_ends_the_others() -> None:
    ended: list[str] = []

    async def wait() -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            ended.append("wait")

    async def fail() -> None:
        await asyncio.sleep(0)
        raise ValueError("first")

    with pytest.raises(ValueError, match="first"):
        async with task_group() as tasks:
            tasks += [asyncio.create_task(wait()), asyncio.create_task(fail())]
    assert ended == ["wait"]


async def test_a_block_that_fails_ends_them() -> None:
    inner: list[asyncio.Task[None]] = []

    async def fail() -> None:
        async with task_group() as tasks:
            tasks.append(asyncio.create_task(asyncio.sleep(3600)))
            inner.extend(tasks)
            raise KeyError

    with pytest.raises(KeyError):
        await fail()
    assert inner[0].cancelled()


async def test_whoever_waits_may_be_stopped() -> None:
    inner: list[asyncio.Task[None]] = []

    async def outer() -> None:
        async with task_group() as tasks:
            tasks.append(asyncio.create_task(asyncio.sleep(3600)))
            inner.extend(tasks)

    task = asyncio.create_task(outer())
    await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    assert inner[0].cancelled()


async def test_what_a_task_does_at_its_end_is_not_interrupted() -> None:
    ended: list[int] = []

    async def work(steps: int) -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            for _ in range(steps):
                await asyncio.sleep(0)
            ended.append(steps)

    async def block() -> None:
        async with task_group() as tasks:
            tasks += [asyncio.create_task(work(1)), asyncio.create_task(work(9))]

    task = asyncio.create_task(block())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    assert ended == [1, 9]
