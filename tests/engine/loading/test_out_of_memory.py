"""Loads for which there is too little memory: real processes, whose allocations fail."""

from __future__ import annotations

import logging
import os
import struct
from pathlib import Path
from typing import Any

import pytest

from engine.api import GenerateRequest
from engine.engine import Engine
from engine.errors import LoadFailed
from engine.runner.llamacpp import library_log
from registry import bundled
from registry.manifest import MODEL, Layer, Manifest
from registry.names import ModelName
from tests.engine.broken_library import broken_library
from tests.engine.running import collect, running
from tests.serving import ENVIRON, GREEDY

SHORT_OF_MEMORY = """
def llama_init_from_model(model, params, _real=llama_init_from_model):
    import resource
    taken = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + ({mib} << 20), resource.RLIM_INFINITY))
    try:
        return _real(model, params)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
"""
TINYCHAT = ModelName.parse("tinychat")
UINT32 = 4  # GGUF's number for that type
KILLED = """
def llama_init_from_model(model, params):
    import os, signal, time
    os.kill(os.getpid(), signal.{signal})
    time.sleep(60)
"""
LINUX = pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="the limit is made from what Linux tells")


async def answer(engine: Engine, **options: Any) -> str:
    request = GenerateRequest(model="tinychat", prompt="Count to 5", options=GREEDY | options)
    return (await collect(engine.generate(request)))[0]


def store_longer(engine: Engine) -> None:
    """Let the model be one for 16,384 tokens, so that it begins with the default context."""
    before, after = (b"context_length" + struct.pack("<II", UINT32, size) for size in (1024, 16_384))
    weights = (Path(bundled.__file__).parent / "tinychat.gguf").read_bytes()
    assert before in weights
    blob = engine.store.add_blob(weights.replace(before, after))
    base = engine.store.find(TINYCHAT).manifest
    layers = [Layer(MODEL, *blob) if layer.media_type == MODEL else layer for layer in base.layers]
    engine.store.write_manifest(TINYCHAT, Manifest(base.config, tuple(layers)))


def attempts(caplog: pytest.LogCaptureFixture) -> list[tuple[int, str]]:
    records = [vars(record)["fields"] for record in caplog.records if record.message.startswith("out of memory: ")]
    return [(record["attempt"], record["next"]) for record in records]


@LINUX
@pytest.mark.parametrize(("mib", "wanted", "failures", "context"), [(100, 4096, 1, 4096), (80, 16_384, 2, 4096)])
async def test_a_load_without_memory_is_tried_again_in_a_leaner_way(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, mib: int, wanted: int, failures: int, context: int
) -> None:
    environ = ENVIRON | os.environ | broken_library(tmp_path, SHORT_OF_MEMORY.format(mib=mib))
    async with running(tmp_path / "models", environ=environ, context_length=wanted, kv_cache_type="f32") as engine:
        store_longer(engine)
        assert await answer(engine) == "1, 2, 3, 4, 5"
        assert attempts(caplog) == [(number, "a leaner one") for number in range(1, failures + 1)]
        assert [model.context_length for model in engine.running()] == [context]


@LINUX
async def test_after_three_attempts_the_error_says_that_there_is_no_memory(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    environ = ENVIRON | os.environ | broken_library(tmp_path, SHORT_OF_MEMORY.format(mib=1))
    async with running(tmp_path / "models", environ=environ) as engine:
        with pytest.raises(LoadFailed, match=r"^llama-server reported out-of-memory during startup: .*\(attempt 3\)$"):
            await answer(engine)
        assert attempts(caplog) == [(1, "a leaner one"), (2, "a leaner one"), (3, "none")]
        assert caplog.records[-1].levelno <= logging.ERROR
        assert engine.running() == []


@pytest.mark.parametrize(
    "line",
    [
        "ggml_aligned_malloc: insufficient memory (attempted to allocate  12.00 MB)",
        "ggml_backend_cuda_buffer_type_alloc_buffer: allocating 1.00 MiB on device 0: cudaMalloc failed: out of memory",
        "ggml_vulkan: Device memory allocation of size 1073741824 failed.",
        "ggml_vulkan: vk::Device::allocateMemory: ErrorOutOfDeviceMemory",
        "llama_model_load: error loading model: unable to allocate CUDA0 buffer",
        "llama_init_from_model: failed to initialize the context: std::bad_alloc",
        "llama_model_load: error loading model: mmap failed: Cannot allocate memory",
    ],
)
def test_what_tells_that_memory_was_short(line: str) -> None:
    log = library_log()
    log.clear()
    assert not log.out_of_memory
    log._receive(4, line.encode(), None)
    assert log.out_of_memory
    log.clear()
    log._receive(4, b"llama_model_load: error loading model: tensor 'x' not found", None)
    assert not log.out_of_memory
    log.clear()


@pytest.mark.parametrize(("signal_name", "attempts_made"), [("SIGKILL", 3), ("SIGTERM", 0)])
async def test_who_is_killed_while_it_loads_was_short_of_memory(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, signal_name: str, attempts_made: int
) -> None:
    environ = ENVIRON | os.environ | broken_library(tmp_path, KILLED.format(signal=signal_name))
    async with running(tmp_path / "models", environ=environ) as engine:
        with pytest.raises(LoadFailed, match=signal_name):
            await answer(engine)
        assert len(attempts(caplog)) == attempts_made
