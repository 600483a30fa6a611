"""Prompts: the same for all sides, different wherever a cached prefix would help."""

from __future__ import annotations

from collections.abc import Sequence

from bench.run import Run
from bench.workload import Workload, interleave, text

WORKLOAD = Workload(streams=8, words=96, tokens=64)


class Recorder:
    """A side that keeps what it was asked in a list that it shares with others."""

    def __init__(self, name: str, asked: list[tuple[str, list[str]]]) -> None:
        self._name = name
        self._asked = asked

    def run(self, prompts: Sequence[str], n_tokens: int) -> Run:
        self._asked.append((self._name, list(prompts)))
        return Run((0.1,) * len(prompts), (float(len(self._asked)),) * len(prompts), (n_tokens,) * len(prompts))


def test_prompts_have_their_length_and_repeat() -> None:
    prompts = WORKLOAD.prompts(0)
    assert [len(prompt.split()) for prompt in prompts] == [96] * 8
    assert prompts == WORKLOAD.prompts(0)


def test_no_two_prompts_share_a_prefix_worth_reusing() -> None:
    prompts = [prompt.split() for turn in range(10) for prompt in WORKLOAD.prompts(turn)]
    beginnings = {tuple(words[:3]) for words in prompts}
    assert len(beginnings) == len(prompts)


def test_workloads_do_not_share_prompts() -> None:
    other = Workload(streams=8, words=96, tokens=32)
    assert not set(WORKLOAD.prompts(0)) & set(other.prompts(0))


def test_text_depends_on_its_key() -> None:
    assert text(12, "a") == text(12, "a") != text(12, "b")


def test_sides_take_turns_on_the_same_prompts() -> None:
    asked: list[tuple[str, list[str]]] = []
    small = Workload(streams=2, words=4, tokens=3)
    runs = interleave([Recorder("ours", asked), Recorder("raw", asked)], small, range(5, 7))
    assert [name for name, _ in asked] == ["ours", "raw", "ours", "raw"]
    assert [prompts for _, prompts in asked] == [small.prompts(turn) for turn in (5, 5, 6, 6)]
    assert [[run.end[0] for run in side] for side in runs] == [[1.0, 3.0], [2.0, 4.0]]
