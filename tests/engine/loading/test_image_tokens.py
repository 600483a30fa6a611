"""How many rows a picture may have, and what a projector adds to a load."""

from __future__ import annotations

import pytest

from engine.loading import memory
from engine.loading.derivations import Weights
from engine.loading.devices import Device
from engine.loading.image_tokens import image_tokens, most_patches
from engine.loading.state import LoadOptions, LoadSpec
from registry.gguf import read_header
from tests.seen import files_of

GIB = 1 << 30


def weights(name: str) -> Weights:
    text, projector = files_of(name)
    return Weights(text, read_header(text), projector=projector)


@pytest.mark.parametrize(
    ("name", "num_ctx", "limits"),
    [
        ("llava", 4096, (-1, -1)),
        ("gemma3", 4096, (-1, -1)),
        ("ultravox", 4096, (-1, -1)),
        ("qwen2vl", 2048, (1024, 1024)),
        ("qwen2vl", 4096, (1024, 2048)),
        ("qwen3vl", 6000, (1024, 3000)),
        ("qwen25vl", 8192, (1024, -1)),
        ("qwen25vl", 131_072, (1024, -1)),
    ],
)
def test_a_picture_fills_half_of_the_context_at_most(name: str, num_ctx: int, limits: tuple[int, int]) -> None:
    assert image_tokens(weights(name), num_ctx) == limits


def test_only_attention_in_windows_has_a_mask() -> None:
    assert most_patches(weights("qwen2vl"), 4096) == most_patches(weights("llava"), 4096) == 0
    assert most_patches(weights("qwen25vl"), 4096) == 2048 * 4
    assert most_patches(weights("qwen25vl"), 65_536) == 4096 * 4
    assert memory.projector_bytes(0, 4096 * 4) - memory.PROJECTOR_OVERHEAD == 16_384**2 * 6


def test_the_plan_has_room_for_it() -> None:
    header = read_header(files_of("llava")[0])
    host = Device("cpu", "cpu", 8 * GIB, 8 * GIB)

    def plan(projector: int = 0, row_cache: int = 0) -> memory.MemoryPlan:
        limits = memory.Limits(parallel=1, row_cache=row_cache)
        return memory.plan(
            header, memory.Request(options=LoadOptions(num_ctx=4096), projector=projector), limits, host, ()
        )

    assert plan(projector=GIB, row_cache=1 << 20).total == plan().total + GIB + (1 << 20)
    rows = plan(projector=GIB, row_cache=GIB).row_cache
    assert rows == 4096 * header.size("embedding_length") * 4  # no more than the context can hold
    assert plan(projector=GIB, row_cache=GIB).total == plan().total + GIB + rows


def test_rows_with_something_for_several_layers_are_wider() -> None:
    plain, deep = (read_header(files_of(name)[0]) for name in ("llava", "qwen3vl"))
    assert memory.row_bytes(plain) == 4 * plain.size("embedding_length")
    assert memory.row_bytes(deep) == 4 * deep.size("embedding_length") * (1 + deep.size("n_deepstack_layers"))
    assert deep.size("n_deepstack_layers") > 0


def test_another_projector_is_another_load() -> None:
    loaded, wanted = LoadSpec(key="a", num_ctx=1, projector="p"), LoadSpec(key="a", num_ctx=1, projector="q")
    assert loaded.serves(loaded)
    assert not loaded.suffices(wanted)
    assert not loaded.suffices(LoadSpec(key="a", num_ctx=1))
