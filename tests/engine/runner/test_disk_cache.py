"""Finished sequences on disk: what comes back is what memory would have given, to the bit, or nothing."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import numpy.typing as npt
import pytest

from engine.loading.state_folder import StateFolder
from engine.messages import Sampling
from engine.runner.disk_cache import LEAST, WORTH_READING
from engine.runner.saved_state import SavedState
from engine.runner.sequence import Sequence
from scripts import smollm2
from tests.engine.runner.harness import DIGEST, LIKELIEST, PLAIN, Runner
from tests.engine.runner.passes import tokens
from tests.engine.runner.recurrent import mamba
from tests.engine.runner.test_windows import words as text
from tests.engine.runner.windowed import windowed

MIB = 1 << 20
SEEDED = Sampling(temperature=0.8, seed=7)
PROMPT = text(450)
FEW = {"num_predict": 12}
Rows = list[npt.NDArray[np.float32]]


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[StateFolder]:
    folder = StateFolder(tmp_path / "cache", 256 * MIB)
    yield folder
    folder.close()


@pytest.fixture
def start(folder: StateFolder) -> Iterator[Callable[..., Runner]]:
    """Starts processes of one model, as it were, one after the other or side by side."""
    runners = []

    def started(**wishes: Any) -> Runner:
        runners.append(Runner(states=folder, **{"n_parallel": 2, **wishes}))
        return runners[-1]

    yield started
    for runner in runners:
        runner.close()


def files(folder: StateFolder) -> list[Path]:
    return sorted((folder.root / "v1" / DIGEST).glob("*"))


def move_out(runner: Runner) -> None:
    """Move finished sequences to memory."""
    for cells in [*runner.streams._idle()]:
        runner.streams._move_out(cells)


def measured(runner: Runner, prompt: tuple[int, ...], **wishes: Any) -> tuple[Sequence, str, Rows]:
    """A request, its answer, and the logits of all its passes that had some."""
    rows: Rows = []
    logits = runner.context.logits

    def noted(count: int) -> npt.NDArray[np.float32]:
        rows.append(logits(count).copy())
        return rows[-1]

    with patch.object(runner.context, "logits", noted):
        seq = runner.submit("", tokens=prompt, **FEW | wishes)
        runner.run()
    return seq, runner.text(seq), rows


def assert_equal(left: Rows, right: Rows) -> None:
    assert [row.tobytes() for row in left] == [row.tobytes() for row in right]


def models(folder: Path) -> dict[str, dict[str, Any]]:
    """Loads of models of all kinds of memory; those with several parts share no cells between shapes."""
    recurrent = mamba()
    for name in (name for name in recurrent.weights if name.endswith("ssm_a")):
        recurrent.weights[name] = -np.abs(recurrent.weights[name])  # else states grow without bounds
    found: dict[str, dict[str, Any]] = {
        "tinychat": {},
        "tinychat q8_0": {"cache_type": "q8_0"},
        "windows": {"path": str(windowed(folder / "windowed.gguf")), "n_ctx": 2048, "n_cells": 4096},
        "recurrent": {"path": str(recurrent.write(folder / "mamba.gguf"))},
    }
    if smollm2.is_here():
        found["smollm2"] = {"path": str(smollm2.gguf())}
    return found


@pytest.mark.parametrize("sampling", [LIKELIEST, PLAIN, SEEDED], ids=["free", "greedy", "seeded"])
@pytest.mark.parametrize("name", ["tinychat", "tinychat q8_0", "windows", "recurrent", "smollm2"])
def test_logits_are_those_behind_a_state_in_memory(
    name: str, sampling: Sampling, tmp_path: Path, start: Callable[..., Runner], folder: StateFolder
) -> None:
    if (wishes := models(tmp_path).get(name)) is None:
        pytest.skip("SmolLM2 has not been downloaded: python -m scripts.smollm2")
    first = start(**wishes)
    seq = first.submit(PROMPT, sampling=sampling, num_predict=30)
    first.run()
    longer = (*seq.tokens, *tokens(20))
    first.streams.write_all()
    assert files(folder)
    move_out(first)
    from_memory, answer, rows = measured(first, longer, sampling=sampling)
    assert (from_memory.tier, from_memory.n_reused >= LEAST) == ("memory", True)
    second = start(**wishes)
    from_disk, again, others = measured(second, longer, sampling=sampling)
    assert (from_disk.tier, from_disk.n_reused) == ("disk", from_memory.n_reused)
    assert again == answer
    assert_equal(others, rows)


def test_what_was_not_used_for_a_while_is_written_in_between(start: Callable[..., Runner], folder: StateFolder) -> None:
    runner = start()
    runner.ask(PROMPT, **FEW)
    runner.streams.write_idle(may_save=True)
    assert not files(folder), "not yet"
    runner.streams.write_idle(0.0, may_save=False)
    assert not files(folder), "something else is computed"
    runner.streams.write_idle(0.0, may_save=True)
    assert runner.disk is not None
    runner.disk.drain()
    (written,) = files(folder)
    runner.streams.write_all()
    assert files(folder) == [written], "once is enough"


def test_a_conversation_that_goes_on_takes_the_place_of_its_beginning(
    start: Callable[..., Runner], folder: StateFolder
) -> None:
    runner = start()
    said: tuple[int, ...] = tuple(tokens(300))
    for turn in range(1, 4):
        seq = runner.submit("", tokens=said, sampling=LIKELIEST, **FEW)
        runner.run()
        runner.streams.write_all()
        assert len(files(folder)) == 1
        said = (*seq.tokens, *tokens(40, turn))
    runner.ask("Quite another story. " + text(450), sampling=LIKELIEST, **FEW)
    runner.streams.write_all()
    assert len(files(folder)) == 2


def test_short_ones_are_not_worth_a_file(start: Callable[..., Runner], folder: StateFolder) -> None:
    runner = start()
    seq = runner.submit(text(100), **FEW)
    runner.run()
    assert seq.n_prompt < LEAST - 20
    runner.streams.write_all()
    assert not files(folder)


def test_what_memory_has_no_room_for_goes_to_disk(start: Callable[..., Runner], folder: StateFolder) -> None:
    runner = start(prompt_cache=0)
    runner.ask(PROMPT, **FEW)
    move_out(runner)
    assert runner.disk is not None
    runner.disk.drain()
    assert len(files(folder)) == 1
    seq = runner.submit(PROMPT, **FEW)
    runner.run()
    assert seq.tier == "disk"


def test_nothing_is_read_for_what_is_in_memory(start: Callable[..., Runner], folder: StateFolder) -> None:
    runner = start()
    runner.ask(PROMPT, sampling=LIKELIEST, **FEW)
    runner.streams.write_all()
    seq = runner.submit(PROMPT + " And", sampling=LIKELIEST, **FEW)
    runner.run()
    assert (seq.tier, seq.fetch) == ("stream", None)
    assert seq.n_reused > LEAST + WORTH_READING


def test_owners_do_not_begin_with_each_others(start: Callable[..., Runner]) -> None:
    first = start()
    first.ask(PROMPT, cache_owner="alice", **FEW)
    first.streams.write_all()
    second = start()
    tiers = []
    for owner in ("bob", "", "alice"):
        seq = second.submit(PROMPT, cache_owner=owner, **FEW)
        second.run()
        tiers.append(seq.tier)
    assert tiers == ["", "", "disk"]


@pytest.mark.parametrize(
    "other",
    [
        {"cache_type": "q8_0"},
        {"cache_type_v": "q8_0"},
        {"flash_attention": 0},
        {"overrides": (("llama.rope.freq_base", 20000.0),)},
    ],
    ids=str,
)
def test_other_settings_have_other_states(
    other: dict[str, Any], start: Callable[..., Runner], folder: StateFolder
) -> None:
    first = start()
    first.ask(PROMPT, **FEW)
    first.streams.write_all()
    second = start(**other)
    seq = second.submit(PROMPT, **FEW)
    second.run()
    assert seq.tier == ""
    assert len(files(folder)) == 1, "it may be wanted again"
    third = start(n_parallel=3, n_cells=2048, n_threads=2)
    seq = third.submit(PROMPT, **FEW)
    third.run()
    assert seq.tier == "disk", "the shape of the cache says nothing"


def wait_for_no_files(folder: StateFolder) -> None:
    deadline = time.monotonic() + 60
    while files(folder):
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("at", ["magic", "head", "cells", "checksum", "cut", "empty", "longer"])
@pytest.mark.parametrize("when", ["before the load", "after it"])
def test_broken_files_are_removed_and_llama_cpp_never_sees_them(
    at: str, when: str, start: Callable[..., Runner], folder: StateFolder
) -> None:
    first = start()
    wanted = first.ask(PROMPT, **FEW)
    first.streams.write_all()
    (file,) = files(folder)
    data = file.read_bytes()
    places = {"magic": 3, "head": 40, "cells": len(data) // 2, "checksum": len(data) - 1}
    broken = {"cut": data[: len(data) // 2], "empty": b"", "longer": data + b"\0"}.get(at, data)
    if place := places.get(at):
        broken = data[:place] + bytes([data[place] ^ 4]) + data[place + 1 :]
    second = start() if when == "after it" else None
    file.write_bytes(broken)
    second = second or start()
    restored: list[SavedState] = []
    with patch.object(second.context, "restore", lambda slot, state: restored.append(state)):
        seq = second.submit(PROMPT, **FEW)
        second.run()
    assert second.text(seq) == wanted
    assert (seq.tier, restored) == ("", [])
    wait_for_no_files(folder)


def test_a_file_under_another_ones_name_is_not_used(start: Callable[..., Runner], folder: StateFolder) -> None:
    first = start()
    first.ask(PROMPT, **FEW)
    first.ask("Quite another story. " + text(450), **FEW)
    first.streams.write_all()
    one, other = files(folder)
    second = start()
    one_bytes = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(one_bytes)
    seq = second.submit(PROMPT, **FEW)
    second.run()
    assert seq.tier == ""


def test_files_that_have_gone_are_no_harm(start: Callable[..., Runner], folder: StateFolder) -> None:
    first = start()
    wanted = first.ask(PROMPT, **FEW)
    first.streams.write_all()
    second = start()
    for file in files(folder):
        file.unlink()
    seqs = [second.submit(PROMPT, **FEW) for _ in range(3)]
    second.run()
    assert seqs[0].tier == ""
    assert [second.text(seq) for seq in seqs] == [wanted] * 3


def test_several_that_begin_alike_share_one_reading(start: Callable[..., Runner]) -> None:
    first = start()
    first.ask(PROMPT, sampling=LIKELIEST, **FEW)
    first.streams.write_all()
    second = start(n_parallel=4)
    seqs = [second.submit(f"{PROMPT} {number}", sampling=LIKELIEST, **FEW) for number in range(4)]
    short = second.submit("The fox", **FEW)
    second.run()
    assert all(seq.n_reused >= LEAST for seq in seqs)
    assert short.tier == ""
    assert not second.failures()


def test_a_cancelled_one_holds_up_nobody(start: Callable[..., Runner]) -> None:
    first = start()
    wanted = first.ask(PROMPT, **FEW)
    first.streams.write_all()
    second = start()
    seq = second.submit(PROMPT, **FEW)
    assert not second.loop.idle or seq.fetch is not None
    second.loop.cancel(seq.id)
    assert second.ask(PROMPT, **FEW) == wanted


def test_the_index_has_an_end(start: Callable[..., Runner], monkeypatch: pytest.MonkeyPatch) -> None:
    first = start(n_parallel=4)
    prompts = [f"Story {number}. " + text(400) for number in range(4)]
    for prompt in prompts:
        first.ask(prompt, **FEW)
        first.streams.write_all()
    monkeypatch.setattr("engine.runner.disk_cache.MOST_FILES", 2)
    second = start()
    tiers = []
    for prompt in reversed(prompts):
        seq = second.submit(prompt, **FEW)
        second.run()
        tiers.append(seq.tier)
    assert tiers == ["disk", "disk", "", ""]
