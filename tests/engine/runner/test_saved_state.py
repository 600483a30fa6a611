"""States go out of a context and into another; what follows is equal to the bit."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.runner.saved_state import HEAD, WORD, SavedState, buffer, portable
from engine.runner.shape import Shape
from tests.engine.runner.harness import LIKELIEST, Runner, chat
from tests.engine.runner.passes import Passes, tokens
from tests.engine.runner.recurrent import mamba
from tests.modelfile.published.pairs import PAIRS

ONE, THREE, EIGHT, POOL = Shape(1, 512), Shape(3, 512), Shape(8, 256), Shape(3, 512, unified=True)
SHAPES = [ONE, THREE, EIGHT, POOL]
SLIDING = ("gemma3", "gptoss", "olmo3")
HYBRID = ("lfm2", "nemotron_h_moe", "qwen3next")
NESTED = (*SLIDING, *HYBRID, "mamba")
LENGTH = 100


def name_of(shape: Shape) -> str:
    return "pool" if shape.unified else f"{shape.streams} streams"


@pytest.fixture(scope="module")
def tinychat() -> Iterator[Passes]:
    passes = Passes(EIGHT)
    yield passes
    passes.close()


@pytest.fixture
def nested(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Passes]:
    """Three streams of a model whose states have several parts."""
    model = mamba() if request.param == "mamba" else PAIRS[request.param]().expected
    for name in (name for name in model.weights if name.endswith("ssm_a")):
        model.weights[name] = -np.abs(model.weights[name])  # else states grow without bounds
    passes = Passes(Shape(3, 256), model.write(tmp_path / "model.gguf"))
    yield passes
    passes.close()


def saved(passes: Passes, seq: int) -> SavedState:
    state = passes.context.save(seq)
    assert state is not None
    return state


def written(streams: int, stream: int, cells: bytes) -> bytes:
    """What llama.cpp writes of a sequence in the last of so many streams: a count for each, cells behind its own."""
    words = [7, stream, streams, *([0] * stream)]
    rest = [0] * (streams - stream - 1)
    return np.array(words, np.uint32).tobytes() + cells + np.array(rest, np.uint32).tobytes()


@pytest.mark.parametrize("stream", range(3))
@pytest.mark.parametrize("streams", [1, 2, 8, 256])
def test_a_portable_state_is_what_other_contexts_would_have_written(stream: int, streams: int) -> None:
    cells = np.array([5, 111, 0, 222, 0], np.uint32).tobytes()  # the count, then what llama.cpp alone understands
    raw = written(3, stream, cells)
    data = buffer(len(raw))
    data[: len(raw)] = np.frombuffer(raw, np.uint8)
    state = portable(data, len(raw), 3)
    fitted = state.fit(streams)
    assert fitted is not None
    expected = np.frombuffer(written(streams, 0, cells), np.uint32).copy()
    expected[1] = stream  # llama.cpp ignores whose it was
    assert fitted.view(np.uint32).tolist() == expected.tolist()
    again = state.fit(3)
    assert again is not None
    assert len(again) == len(raw)


def test_the_state_of_nothing_is_portable_too() -> None:
    raw = written(3, 1, np.zeros(1, np.uint32).tobytes())
    data = buffer(len(raw))
    data[: len(raw)] = np.frombuffer(raw, np.uint8)
    fitted = portable(data, len(raw), 3).fit(8)
    assert fitted is not None
    assert fitted.view(np.uint32).tolist() == [7, 1, 8, *[0] * 8]


def test_a_state_of_several_parts_fits_its_own_number_of_streams_alone() -> None:
    state = SavedState(buffer(40), 0, 40, streams=3)
    assert state.fit(2) is None
    fitted = state.fit(3)
    assert fitted is not None
    assert fitted.nbytes == 40


@pytest.mark.parametrize("target", SHAPES, ids=name_of)
@pytest.mark.parametrize("source", SHAPES, ids=name_of)
def test_a_state_goes_to_any_shape(tinychat: Passes, source: Shape, target: Shape) -> None:
    context = tinychat.context
    assert context.reshape(source)
    seq, other = source.streams - 1, target.streams // 2
    tinychat.run(0, tokens(30, 1))
    context.remove(seq, 0)
    tinychat.run(seq, tokens(LENGTH))
    state = saved(tinychat, seq)
    expected = [tinychat.run(seq, [token], LENGTH + i) for i, token in enumerate(tokens(3, 2))]
    assert context.reshape(target)
    assert tinychat.length(other) == 0
    assert context.restore(other, state)
    assert tinychat.length(other) == LENGTH
    logits = [tinychat.run(other, [token], LENGTH + i) for i, token in enumerate(tokens(3, 2))]
    assert np.array_equal(logits, expected)


def test_states_go_from_stream_to_stream_beside_others(tinychat: Passes) -> None:
    tinychat.context.reshape(EIGHT)
    for seq in range(3):
        tinychat.run(seq, tokens(LENGTH, seq))
    states = [saved(tinychat, seq) for seq in range(3)]
    expected = tinychat.rows([0, 1, 2], LENGTH)
    for seq, state in enumerate(reversed(states)):
        assert tinychat.context.restore(5 + seq, state)
    assert np.array_equal(tinychat.rows([5, 6, 7], LENGTH), expected[::-1])


def test_a_state_can_be_restored_again_and_cut(tinychat: Passes) -> None:
    tinychat.context.reshape(EIGHT)
    tinychat.run(2, tokens(LENGTH))
    state = saved(tinychat, 2)
    assert tinychat.context.remove(2, 40)
    expected = tinychat.run(2, [9], 40)
    for seq in (0, 7):
        assert tinychat.context.restore(seq, state)
        assert tinychat.context.remove(seq, 40)
        assert np.array_equal(tinychat.run(seq, [9], 40), expected)


@pytest.mark.parametrize(
    "wishes", [{"cache_type": "q8_0"}, {"cache_type": "q4_0"}, {"cache_type": "bf16"}, {"flash_attention": 0}], ids=str
)
def test_every_kind_of_cache_has_such_states(wishes: dict[str, Any]) -> None:
    passes = Passes(THREE, **wishes)
    passes.run(2, tokens(LENGTH))
    state = saved(passes, 2)
    expected = passes.run(2, [9], LENGTH)
    for shape in (THREE, EIGHT, POOL):
        assert passes.context.reshape(shape)
        assert passes.context.restore(1, state)
        assert np.array_equal(passes.run(1, [9], LENGTH), expected)
    passes.close()


def test_a_state_has_the_size_of_its_cells_and_little_more(tinychat: Passes) -> None:
    tinychat.context.reshape(EIGHT)
    tinychat.run(0, tokens(50))
    tinychat.run(1, tokens(200))
    small, large = saved(tinychat, 0), saved(tinychat, 1)
    per_token = (large.size - small.size) / 150
    assert small.size < 50 * per_token + 4096


def test_the_state_of_an_empty_stream_is_empty(tinychat: Passes) -> None:
    tinychat.context.reshape(THREE)
    state = saved(tinychat, 1)
    assert tinychat.context.restore(2, state)
    assert tinychat.length(2) == 0


def test_a_state_that_is_longer_than_the_stream_is_refused_and_leaves_nothing(tinychat: Passes) -> None:
    tinychat.context.reshape(ONE)
    tinychat.run(0, tokens(300))
    state = saved(tinychat, 0)
    tinychat.context.reshape(EIGHT)
    fresh = tinychat.run(1, tokens(LENGTH))
    tinychat.run(3, tokens(LENGTH, 1))
    assert not tinychat.context.restore(2, state)
    assert [tinychat.length(seq) for seq in (1, 2, 3)] == [LENGTH, 0, LENGTH]
    assert np.array_equal(tinychat.run(2, tokens(LENGTH)), fresh)


def test_in_a_pool_without_room_a_state_is_refused_and_leaves_nothing(tinychat: Passes) -> None:
    tinychat.context.reshape(POOL)
    tinychat.run(0, tokens(300))
    state = saved(tinychat, 0)
    assert not tinychat.context.restore(1, state)
    assert [tinychat.length(seq) for seq in (0, 1)] == [300, 0]
    tinychat.context.remove(0, 0)
    assert tinychat.context.restore(1, state)


COUNT = HEAD  # the word with the number of cells


@pytest.mark.parametrize(
    ("word", "value"),
    [(0, 0), (COUNT, 1), (COUNT, LENGTH - 1), (COUNT, LENGTH + 1), (COUNT, 1 << 31), (COUNT + 2, 7)],
    ids=str,
)
def test_a_damaged_state_is_refused_and_leaves_nothing(tinychat: Passes, word: int, value: int) -> None:
    tinychat.context.reshape(THREE)
    fresh = tinychat.run(0, tokens(LENGTH))
    state = saved(tinychat, 0)
    state.data[state.start :][: WORD * 8].view(np.uint32)[word] = value
    assert not tinychat.context.restore(1, state)
    assert tinychat.length(1) == 0
    assert np.array_equal(tinychat.run(1, tokens(LENGTH)), fresh)


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.999])
def test_half_a_state_is_refused_and_leaves_nothing(tinychat: Passes, share: float) -> None:
    tinychat.context.reshape(ONE)
    fresh = tinychat.run(0, tokens(LENGTH))
    state = saved(tinychat, 0)
    state.end = state.start + int((state.end - state.start) * share) // WORD * WORD
    tinychat.context.remove(0, 0)
    assert not tinychat.context.restore(0, state)
    assert tinychat.length(0) == 0
    assert np.array_equal(tinychat.run(0, tokens(LENGTH)), fresh)


def test_a_state_of_another_kind_of_cache_is_refused(tinychat: Passes) -> None:
    tinychat.context.reshape(THREE)
    other = Passes(THREE, cache_type="q8_0")
    other.run(0, tokens(LENGTH))
    assert not tinychat.context.restore(0, saved(other, 0))
    assert tinychat.length(0) == 0
    other.close()


@pytest.mark.parametrize("nested", NESTED, indirect=True)
def test_a_state_of_several_parts_goes_from_stream_to_stream(nested: Passes) -> None:
    nested.run(0, tokens(LENGTH, 1))
    assert np.isfinite(nested.run(2, tokens(LENGTH))).all()
    state = saved(nested, 2)
    expected = [nested.run(2, [token], LENGTH + i) for i, token in enumerate(tokens(3, 2))]
    assert nested.context.restore(1, state)
    assert np.array_equal([nested.run(1, [token], LENGTH + i) for i, token in enumerate(tokens(3, 2))], expected)
    nested.context.reshape(Shape(3, 512))
    assert nested.context.restore(0, state)
    assert np.array_equal([nested.run(0, [token], LENGTH + i) for i, token in enumerate(tokens(3, 2))], expected)


@pytest.mark.parametrize("shape", [ONE, EIGHT, POOL], ids=name_of)
@pytest.mark.parametrize("nested", NESTED, indirect=True)
def test_a_state_of_several_parts_is_refused_by_another_number_of_streams(nested: Passes, shape: Shape) -> None:
    nested.run(2, tokens(LENGTH))
    state = saved(nested, 2)
    nested.context.reshape(shape)
    assert not nested.context.restore(0, state)
    assert nested.length(0) == 0
    nested.run(0, tokens(LENGTH))


@pytest.mark.parametrize("nested", NESTED, indirect=True)
def test_a_damaged_state_of_several_parts_is_refused_and_leaves_nothing(nested: Passes) -> None:
    fresh = nested.run(0, tokens(LENGTH))
    state = saved(nested, 0)
    state.end -= WORD * 8
    assert not nested.context.restore(1, state)
    assert nested.length(1) == 0
    assert np.array_equal(nested.run(1, tokens(LENGTH)), fresh)


@pytest.mark.parametrize("nested", SLIDING, indirect=True)
def test_a_restored_state_has_too_little_of_a_sliding_window_to_be_cut(nested: Passes) -> None:
    context = nested.context
    assert (context.can_cut, context.can_cut_states) == (True, False)
    nested.run(0, tokens(40))
    expected = nested.run(0, tokens(60, 1), 40)
    state = saved(nested, 0)
    assert context.restore(1, state)
    assert not context.remove(1, 40)
    assert not context.remove(1, 10, LENGTH - 3)
    assert nested.length(1) == LENGTH
    assert np.array_equal(nested.run(1, [9], LENGTH), nested.run(0, [9], LENGTH))
    assert context.remove(1, LENGTH)
    assert context.remove(0, 40)
    assert np.array_equal(nested.run(0, tokens(60, 1), 40), expected)


@pytest.mark.parametrize("nested", SLIDING, indirect=True)
def test_the_middle_goes_out_of_a_restored_state_if_its_window_is_behind(nested: Passes) -> None:
    context = nested.context
    nested.run(0, tokens(LENGTH))
    assert context.restore(1, saved(nested, 0))
    for seq in (0, 1):
        assert context.remove(seq, 10, 50)
        context.shift(seq, 50, LENGTH, -40)
    assert np.array_equal(nested.run(1, [9], 60), nested.run(0, [9], 60))


@pytest.mark.parametrize("nested", [*HYBRID, "mamba"], indirect=True)
def test_a_recurrent_state_is_not_cut(nested: Passes) -> None:
    assert (nested.context.can_cut, nested.context.can_cut_states, nested.context.can_shift) == (False, False, False)
    nested.run(0, tokens(LENGTH))
    assert not nested.context.remove(0, 40)
    assert nested.length(0) == LENGTH
    assert nested.context.remove(0, 0)
    assert nested.length(0) == 0


def test_what_was_shifted_is_saved_as_it_will_be(tinychat: Passes) -> None:
    """llama.cpp turns the keys of moved cells with the next pass only."""
    context = tinychat.context
    context.reshape(EIGHT)
    for seq in (0, 1):
        tinychat.run(seq, tokens(LENGTH))
        context.remove(seq, 10, 50)
        context.shift(seq, 50, LENGTH, -40)
    early = saved(tinychat, 1)
    assert tinychat.length(1) == 60
    tinychat.run(0, [9], 60)
    context.remove(0, 60)
    for seq, state in enumerate((early, saved(tinychat, 0)), start=2):
        assert context.restore(seq, state)
    assert np.array_equal(tinychat.run(2, [9], 60), tinychat.run(3, [9], 60))


def test_a_shift_in_a_full_stream_does_not_hinder_saving_others(tinychat: Passes) -> None:
    tinychat.context.reshape(EIGHT)
    full = tinychat.run(0, tokens(256))
    tinychat.run(1, tokens(LENGTH))
    tinychat.context.remove(1, 10, 50)
    tinychat.context.shift(1, 50, LENGTH, -40)
    state = saved(tinychat, 0)
    assert tinychat.length(0) == 256
    tinychat.context.reshape(Shape(4, 512))
    assert tinychat.context.restore(0, state)
    assert np.array_equal(tinychat.run(1, tokens(256)), full)


@pytest.mark.parametrize("moment", ["save", "restore"])
def test_who_loses_its_state_while_gaps_are_closed_is_answered_all_the_same(
    moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = Runner(n_ctx=256, n_cells=2048)
    prompts = [chat(f"Tell me about {thing}.") for thing in ("a fox", "France", "the sun")]
    alone = [runner.ask(prompt, sampling=LIKELIEST) for prompt in prompts]
    runner.forget()
    seqs = [runner.submit(prompt, sampling=LIKELIEST) for prompt in prompts]
    runner.run(until=lambda: all(seq.n_generated > 2 for seq in seqs))
    runner.loop.cancel(seqs[1].id)
    with monkeypatch.context() as patch:
        patch.setattr(runner.context, moment, lambda *_: False if moment == "restore" else None)
        runner.step()
    assert min(seqs[0].n_cached, seqs[2].n_cached) <= seqs[0].n_prompt + seqs[0].n_generated
    runner.run()
    assert not runner.failures()
    assert [runner.text(seqs[i]) for i in (0, 2)] == [alone[0], alone[2]]
    runner.close()
