"""Steps as they are told, and the end of whatever tells them."""

import asyncio
import threading
from contextlib import aclosing

import pytest

from modelfile.threads import in_thread
from registry.progress import OnStep, progress_of


async def test_all_steps_and_the_error_after_them() -> None:
    async def work(on_step: OnStep) -> None:
        on_step({"status": "one"})
        on_step({"status": "two"})
        raise KeyError("broken")

    steps = progress_of(work)
    assert [await anext(steps), await anext(steps)] == [{"status": "one"}, {"status": "two"}]
    with pytest.raises(KeyError, match="broken"):
        await anext(steps)


async def test_who_stops_reading_stops_the_work() -> None:
    stopped = asyncio.Event()

    async def work(on_step: OnStep) -> None:
        on_step({"status": "one"})
        try:
            await asyncio.sleep(3600)
        finally:
            await asyncio.sleep(0)
            stopped.set()

    async with aclosing(progress_of(work)) as steps:
        await anext(steps)
    assert stopped.is_set()


async def test_a_thread_ends_before_its_caller() -> None:
    started, go_on, done = threading.Event(), threading.Event(), threading.Event()

    def work() -> None:
        started.set()
        assert go_on.wait(60)
        done.set()

    task = asyncio.ensure_future(in_thread(work))
    await asyncio.to_thread(started.wait)
    task.cancel()
    asyncio.get_running_loop().call_later(0.05, go_on.set)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert done.is_set()
