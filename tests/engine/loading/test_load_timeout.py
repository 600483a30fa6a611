"""How long a load may stand still."""

from __future__ import annotations

import asyncio
import math
import os
from pathlib import Path
from typing import Any

import pytest

from engine.api import GenerateRequest
from engine.errors import LoadFailed
from tests.engine.broken_library import broken_library
from tests.engine.running import collect, running
from tests.serving import ENVIRON, GREEDY

SLOW = """
def llama_model_load_from_file(path, params, _real=llama_model_load_from_file):
    import time
    for step in range({steps}):
        time.sleep({seconds})
        params.progress_callback(0.1 * (step + 1), None)
    return _real(path, params)
"""
FILLS = """
def llama_init_from_model(model, params, _real=llama_init_from_model, kept=[]):
    import time
    for step in range(8):
        time.sleep(0.4)
        kept.append(bytearray(b"x" * (4 << 20)))
    return _real(model, params)
"""
REQUEST = GenerateRequest(model="tinychat", prompt="Count to 5", options=GREEDY)


async def answer(folder: Path, steps: int, seconds: float, load_timeout: float) -> str:
    environ: dict[str, Any] = ENVIRON | os.environ | broken_library(folder, SLOW.format(steps=steps, seconds=seconds))
    async with running(folder / "models", environ=environ, load_timeout=load_timeout) as engine, asyncio.timeout(60):
        return (await collect(engine.generate(REQUEST)))[0]


async def test_a_load_that_stands_still_is_given_up(tmp_path: Path) -> None:
    with pytest.raises(
        LoadFailed,
        match=r"^timed out waiting for llama-server to start - the load made no progress for 1 s.*OLLAMA_LOAD_TIMEOUT",
    ):
        await answer(tmp_path, 1, 600.0, load_timeout=1.0)


async def test_a_load_that_fills_memory_gets_on(tmp_path: Path) -> None:
    """As a KV cache that is cleared: nothing is told of it."""
    environ: dict[str, Any] = ENVIRON | os.environ | broken_library(tmp_path, FILLS)
    async with running(tmp_path / "models", environ=environ, load_timeout=2.0) as engine, asyncio.timeout(60):
        assert (await collect(engine.generate(REQUEST)))[0] == "1, 2, 3, 4, 5"


async def test_a_load_that_gets_on_may_take_longer(tmp_path: Path) -> None:
    assert await answer(tmp_path, 5, 0.6, load_timeout=2.0) == "1, 2, 3, 4, 5"


async def test_without_a_limit_a_load_may_stand_still(tmp_path: Path) -> None:
    assert await answer(tmp_path, 1, 1.5, load_timeout=math.inf) == "1, 2, 3, 4, 5"
