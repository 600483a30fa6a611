"""Prompts of a model with a recurrent state, which can be kept where others will begin, and not be cut."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.engine.runner.harness import LIKELIEST, Runner
from tests.engine.runner.recurrent import mamba

SHARED = "the quick brown fox jumps over the lazy dog " * 8
FEW = {"sampling": LIKELIEST, "num_predict": 2}


@pytest.fixture
def runner(tmp_path: Path) -> Iterator[Runner]:
    model = mamba()
    for name in (name for name in model.weights if name.endswith("ssm_a")):
        model.weights[name] = -np.abs(model.weights[name])  # else states grow without bounds
    runner = Runner(path=str(model.write(tmp_path / "model.gguf")), n_ctx=1024, n_cells=2048, n_parallel=2)
    runner.ask("What a pass costs is known from here on.", **FEW)
    yield runner
    runner.close()


def passes_of(runner: Runner, prompt: str) -> tuple[int, int, int]:
    """Passes until the end of an answer of two tokens, tokens of the prompt, and those that were reused."""
    before = runner.loop.steps
    seq = runner.submit(prompt, **FEW)
    runner.run()
    return runner.loop.steps - before, seq.n_prompt, seq.n_reused


def test_a_prompt_that_has_nothing_in_common_is_one_pass(runner: Runner) -> None:
    passes, _, reused = passes_of(runner, SHARED + "and then")
    assert (passes, reused) == (2, 0)


def test_where_prompts_part_a_state_is_kept(runner: Runner) -> None:
    _, length, _ = passes_of(runner, SHARED + "and then it sleeps")
    passes, _, reused = passes_of(runner, SHARED + "but never a cat of mine")
    assert (passes, reused) == (3, 0)  # up to where both part, and behind it
    passes, _, reused = passes_of(runner, SHARED + "or so they say")
    assert passes == 2
    assert length - 40 < reused < length
