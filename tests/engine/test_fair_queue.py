"""Clients take turns in a line."""

from __future__ import annotations

import asyncio

import pytest

from engine.errors import ServerBusy
from engine.fair_queue import FairQueue


async def stand(line: FairQueue, client: str, served: list[str]) -> None:
    async with line.place(client):
        served.append(client)
        await asyncio.sleep(0)


async def test_clients_take_turns() -> None:
    line, served = FairQueue(1, 20), list[str]()
    await asyncio.gather(*(stand(line, client, served) for client in "aaaaaabcb"))
    assert "".join(served) == "aabcabaaa"
    assert line.length == 0


async def test_a_client_has_its_smallest_first() -> None:
    line, served = FairQueue(1, 20), list[int]()

    async def stand_with(size: int) -> None:
        async with line.place("a", size):
            served.append(size)
            await asyncio.sleep(0)

    await asyncio.gather(*map(stand_with, (5, 9, 3, 3, 7)))
    assert served == [5, 3, 3, 7, 9]


async def test_as_many_at_once_as_there_is_room_for() -> None:
    line = FairQueue(2, 4)
    async with line.place("a"), line.place("a"):
        waiting = asyncio.create_task(stand(line, "a", []))
        await asyncio.sleep(0)
        assert line.length == 1
    await waiting
    async with line.place("a"):
        assert line.length == 0


async def test_no_client_has_more_than_half_of_the_line() -> None:
    line, served = FairQueue(1, 4), list[str]()
    async with line.place("x"):
        tasks = [asyncio.create_task(stand(line, client, served)) for client in "aabb"]
        await asyncio.sleep(0)
        for client in "ac":
            with pytest.raises(ServerBusy):
                await stand(line, client, served)
    await asyncio.gather(*tasks)
    assert "".join(served) == "abab"


async def test_who_leaves_the_line_leaves_his_place() -> None:
    line, served = FairQueue(1, 4), list[str]()
    async with line.place("x"):
        tasks = [asyncio.create_task(stand(line, client, served)) for client in "abc"]
        await asyncio.sleep(0)
        tasks[0].cancel()
        await asyncio.sleep(0)
        assert line.length == 2
    tasks[1].cancel()  # whose turn it just became
    await asyncio.gather(*tasks, return_exceptions=True)
    assert served == ["c"]
    async with line.place("x"):
        pass
