"""Steps of the loop are timed without llama.cpp's passes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from bench import overhead
from bench.endless import make_endless
from bench.models import BUNDLED
from engine.runner.llamacpp import C
from registry.names import ModelName


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> overhead.PassClock:
    monkeypatch.setattr(C, "llama_decode", C.llama_decode)  # put back at the end
    return overhead.PassClock()


@pytest.fixture
def child(tmp_path: Path) -> Iterator[overhead.Child]:
    gguf = tmp_path / "tinychat.gguf"
    gguf.write_bytes(make_endless(BUNDLED[ModelName.parse("tinychat")].path))
    with overhead.reader() as sock:
        child = overhead.Child(gguf, 1, sock)
        yield child
        child.context.close()


def test_each_number_of_sequences_has_its_steps(child: overhead.Child, clock: overhead.PassClock) -> None:
    for count in (3, 1):
        before, generated = clock.seconds, child.loops.loop.generated_tokens
        seconds = child.measure(count, clock)
        assert len(seconds) == overhead.STEPS
        assert min(seconds) > 0
        assert clock.seconds > before
        assert child.loops.loop.generated_tokens >= generated + count * overhead.STEPS
        assert child.loops.loop.busy == 0
