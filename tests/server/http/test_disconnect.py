"""Work that ends with the client."""

import asyncio

from starlette.types import Message

from server.http.streaming import unless_gone


class Client:
    """Says nothing until it goes."""

    def __init__(self) -> None:
        self.leave = asyncio.Event()

    async def receive(self) -> Message:
        await self.leave.wait()
        return {"type": "http.disconnect"}


async def test_work_that_is_done() -> None:
    done = []

    async def work() -> None:
        done.append(True)

    assert await unless_gone(work(), Client().receive) is None
    assert done


async def test_work_that_fails() -> None:
    async def work() -> None:
        raise KeyError("x")

    assert isinstance(await unless_gone(work(), Client().receive), KeyError)


async def test_a_client_that_goes() -> None:
    client, cleaned_up = Client(), asyncio.Event()

    async def work() -> None:
        client.leave.set()
        try:
            await asyncio.sleep(3600)
        finally:
            cleaned_up.set()

    assert await unless_gone(work(), client.receive) is None
    assert cleaned_up.is_set()
