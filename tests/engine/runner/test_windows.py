"""Small caches of layers with a sliding window: no text depends on what they have forgotten."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from engine.loading.load_options import row_kernels
from engine.messages import Sampling
from engine.runner.shape import Budget, Shape
from registry.gguf import read_header
from tests.engine.runner.harness import LIKELIEST, PLAIN, Runner
from tests.engine.runner.passes import Logits, Passes, tokens
from tests.engine.runner.test_same_text import text
from tests.engine.runner.windowed import MODELS, WINDOW, windowed

N_CTX = 2048
GRID = 128
WORDS = ["the", "fox", "river", "runs", "over", "stone", "bridge", "where", "old", "men"]
SEEDED = Sampling(temperature=0.8, seed=7)
FREE = Sampling(temperature=0.9)
LONG = 1274  # tokens: more than a window's cells


def words(count: int, seed: int = 0) -> str:
    dice = random.Random(seed)
    return " ".join(dice.choice(WORDS) for _ in range(count))


def load(path: Path, **wishes: object) -> Runner:
    spec = {"n_ctx": N_CTX, "n_cells": 4 * N_CTX, "n_parallel": 4, "rows": row_kernels(read_header(path))}
    return Runner(path=str(path), **spec | wishes)


@pytest.fixture(scope="module", params=MODELS)
def path(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return windowed(tmp_path_factory.mktemp("models") / "model.gguf", request.param)


@pytest.fixture(scope="module")
def passes(path: Path) -> Iterator[Passes]:
    passes = Passes(Shape(3, N_CTX), path)
    yield passes
    passes.close()


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runner]:
    runner = load(windowed(tmp_path_factory.mktemp("models") / "model.gguf"))
    yield runner
    runner.close()


def computed(passes: Passes, seq: int, start: int, end: int) -> Logits:
    """The logits behind tokens [start, end), which are computed in chunks."""
    text = tokens(LONG + 200)
    for at in range(start, end, GRID):
        chunk = text[at : min(at + GRID, end)]
        assert passes.context.make_room(seq, len(chunk))
        logits = passes.run(seq, chunk, at)
    return logits


def answered(passes: Passes, seq: int, start: int, count: int) -> Logits:
    """The logits behind each of so many tokens, which are computed in rows of two."""
    rows = []
    for at, token in enumerate(tokens(count, 1), start):
        assert passes.context.make_room(seq, 2)
        passes._batch.clear()
        passes._batch.add_row([seq] * 2, [token] * 2, [at, at + 1])
        assert passes.context.decode(passes._batch) == 0
        rows.append(passes.context.logits(2)[0].copy())
        assert passes.context.remove(seq, at + 1)
    return np.array(rows)


def test_the_numbers_are_those_of_full_caches(path: Path, passes: Passes) -> None:
    full = Passes(Shape(3, N_CTX), path, swa_full=True)
    expected = computed(full, 0, 0, LONG), answered(full, 0, LONG, 150)
    full.close()
    assert not passes.context.can_shift
    for seq in (0, 2, 0):
        passes.context.remove(seq, 0)
        assert np.array_equal(computed(passes, seq, 0, LONG), expected[0])
        assert np.array_equal(answered(passes, seq, LONG, 150), expected[1])


def test_a_state_goes_on_with_the_same_numbers(passes: Passes) -> None:
    for seq in range(3):
        passes.context.remove(seq, 0)
    computed(passes, 0, 0, 1024)
    state = passes.context.save(0)
    assert state is not None
    expected = computed(passes, 0, 1024, LONG), answered(passes, 0, LONG, 100)
    assert passes.context.restore(1, state)
    assert np.array_equal(computed(passes, 1, 1024, LONG), expected[0])
    begun = answered(passes, 1, LONG, 40)
    state = passes.context.save(1)
    assert state is not None
    assert passes.context.restore(2, state)
    for seq in (1, 2):
        assert passes.context.make_room(seq, 2)
    assert np.array_equal(begun, expected[1][:40])
    assert np.array_equal(passes.run(1, [9], LONG + 40), passes.run(2, [9], LONG + 40))


def test_who_has_lost_its_window_is_not_cut(passes: Passes) -> None:
    passes.context.remove(0, 0)
    expected = computed(passes, 0, 0, 512)
    computed(passes, 0, 512, LONG)
    assert not passes.context.keeps_window(0, 512)
    assert not passes.context.remove(0, 512)
    assert passes.length(0) == LONG
    assert passes.context.remove(0, LONG - 100)
    assert passes.context.remove(0, 0)
    assert np.array_equal(computed(passes, 0, 0, 512), expected)


@pytest.mark.parametrize("count", [100, 260], ids=["short", "long"])
@pytest.mark.parametrize("sampling", [SEEDED, PLAIN], ids=["seed", "temperature 0"])
def test_the_text_is_the_same_in_any_company(runner: Runner, sampling: Sampling, count: int) -> None:
    runner.forget()
    prompt, wishes = words(count, count), {"num_ctx": N_CTX, "num_predict": 150, "sampling": sampling}

    def ask() -> list[int]:
        seq = runner.submit(prompt, **wishes)
        runner.run()
        return text(seq)

    alone = ask()
    assert ask() == alone, "again"
    others = [runner.submit(words(50 + 60 * n, n), num_ctx=N_CTX, num_predict=200, sampling=FREE) for n in range(3)]
    for _ in range(4):
        runner.step()
    among = runner.submit(prompt, **wishes)
    runner.run()
    assert all(other.n_generated for other in others)
    assert text(among) == alone, "beside three"
    assert ask() == alone, "after them"
    runner.forget()
    halfway = runner.submit(prompt, **wishes)
    runner.run(until=lambda: halfway.n_generated >= len(alone) // 2)
    if halfway in runner.loop.admission.running:
        runner.loop.admission.suspend(halfway)
    runner.run()
    assert text(halfway) == alone, "suspended"
    assert not runner.failures()


def test_a_context_that_grows_changes_no_text(runner: Runner) -> None:
    prompt, wishes = words(260, 3), {"num_ctx": N_CTX, "num_predict": 60, "sampling": SEEDED}
    runner.forget()
    seq = runner.submit(prompt, **wishes)
    runner.run()
    runner.forget()
    grown = runner.submit(prompt, **wishes)
    runner.run(until=lambda: grown.n_generated > 1)
    before = runner.loop.admission.budget
    assert runner.loop.admission.resize(Budget(2 * before.cells, before.streams, 2 * before.longest))
    runner.run()
    assert runner.loop.admission.resize(before)
    assert text(grown) == text(seq)


def test_a_full_context_goes_on_without_its_middle(runner: Runner) -> None:
    """Cells of small windows cannot move: what stays is computed again."""
    runner.forget()
    wishes = {"num_ctx": 1024, "num_predict": 300, "num_keep": 8}
    prompt = words(190, 5)
    texts = []
    for company in (0, 2):
        others = [runner.submit(words(30, n), num_ctx=N_CTX, num_predict=300, sampling=FREE) for n in range(company)]
        seq = runner.submit(prompt, **wishes, sampling=SEEDED)
        runner.run()
        assert all(other.n_generated for other in others)
        assert seq.n_prompt < 1024 < seq.n_prompt + seq.n_generated
        texts.append(runner.text(seq))
    assert texts[0] == texts[1]
    assert not runner.failures()


def test_what_a_small_window_has_lost_is_computed_again(runner: Runner) -> None:
    runner.forget()
    wishes = {"num_ctx": N_CTX, "num_predict": 4, "sampling": LIKELIEST}
    common = words(160, 11)
    first = runner.submit(f"{common} {words(110, 12)}", **wishes)
    runner.run()
    reused = []
    for n in range(3):
        seq = runner.submit(f"{common} {words(20, 13 + n)}", **wishes)
        runner.run()
        reused.append(seq.n_reused)
    assert first.n_prompt > 6 * WINDOW
    assert reused[0] == 0  # it parts where the first one has no window any more, and leaves a copy there
    assert min(reused[1:]) >= 700
    runner.forget()
    again = runner.submit(f"{common} {words(20, 15)}", **wishes)
    runner.run()
    assert again.n_reused == 0


def test_a_chat_goes_on_behind_each_of_its_turns(runner: Runner) -> None:
    runner.forget()
    history, known = "", 0
    for turn in range(5):
        history += f"user: {words(60, turn)} model: "
        seq = runner.submit(history, num_ctx=N_CTX, num_predict=12, sampling=LIKELIEST)
        runner.run()
        assert seq.n_reused >= known
        known, history = seq.n_prompt, f"{history} and so on. "
    assert known > 8 * WINDOW
