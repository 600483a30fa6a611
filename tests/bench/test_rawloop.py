"""The bare loop in its own process, on the bundled model."""

from __future__ import annotations

import pytest

from bench.rawloop import RawLoop
from bench.workload import Workload
from registry.bundled import MODELS
from registry.names import ModelName

TINYCHAT = MODELS[ModelName.parse("tinychat")].path
WORKLOAD = Workload(streams=2, words=8, tokens=5)


def test_runs_follow_each_other() -> None:
    with RawLoop(TINYCHAT, n_threads=1, n_seq=2) as raw:
        runs = [raw.run(WORKLOAD.prompts(turn), WORKLOAD.tokens) for turn in range(2)]
        single = raw.run(WORKLOAD.prompts(2)[:1], 3)
    for run in runs:
        assert run.tokens == (5, 5)
        assert all(0 < first < end for first, end in zip(run.first, run.end, strict=True))
    assert single.tokens == (3,)


def test_a_prompt_that_does_not_fit_ends_it(capfd: pytest.CaptureFixture[str]) -> None:
    with RawLoop(TINYCHAT, n_threads=1, n_seq=1) as raw, pytest.raises(RuntimeError, match="has ended with 1"):
        raw.run(["word " * 5000], 1)
    assert "do not fit one batch" in capfd.readouterr().err
