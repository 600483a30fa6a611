"""A client that reads nothing holds a model only until somebody else wants its place."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.models import ONE, OTHER, provide
from tests.faults.streams import Stream, answer, story
from tests.serving import Served, serving

SECONDS = 1


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Served]:
    limits = {"OLLAMA_MAX_LOADED_MODELS": "1", "OLLAMA_NUM_PARALLEL": "1", "PRONK_UNREAD_TIMEOUT": f"{SECONDS}s"}
    with serving(tmp_path / "models", **limits) as served:
        provide(served, tmp_path, ONE, OTHER)
        yield served


async def silent(server: Served) -> tuple[Stream, asyncio.StreamReader]:
    """A client whose answer has begun, and which reads nothing of it."""
    await answer(server, story(ONE, num_predict=1))
    much = {"logprobs": True, "top_logprobs": 20}  # the system's buffers take megabytes
    stream = Stream(server, story(ONE, num_predict=10**6) | much)
    reader = await stream.start_silent(receive_buffer=4096)
    await asyncio.sleep(3 * SECONDS)
    return stream, reader


def told(server: Served) -> int:
    return server.log.read_text().count("answer cancelled: its client does not read")


@pytest.mark.parametrize("wanted", [ONE, OTHER], ids=["the same model", "another model"])
async def test_its_place_goes_to_who_waits_for_it(server: Served, wanted: str) -> None:
    stream, reader = await silent(server)
    assert not told(server), "nobody waits"
    after = await answer(server, story(wanted, num_predict=5))
    assert after.last["eval_count"] == 5
    assert told(server) == 1
    rest = (await asyncio.wait_for(reader.read(-1), 60)).decode()
    stream.leave()
    assert "answer cancelled: nothing of it was read for" in rest[-1000:]


async def test_a_client_that_reads_keeps_its_place(server: Served) -> None:
    reading = await Stream(server, story(ONE, num_predict=3000)).start()
    await reading.begun()
    after = await answer(server, story(OTHER, num_predict=5))
    assert (reading.last["eval_count"], after.last["eval_count"]) == (3000, 5)
    assert not told(server)
