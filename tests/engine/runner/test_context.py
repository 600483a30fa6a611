"""Models that llama.cpp refuses, with error messages for users."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from engine.loading.memory import MAX_PARALLEL, copied_bytes
from engine.runner.batch import Batch
from engine.runner.context import ABORTED, NO_SLOT, ModelError
from engine.runner.llamacpp import C
from engine.runner.repacking import copied_types
from engine.runner.selftest import QUANTIZATIONS, CheckedQuantization, quantize
from registry.gguf import read_header
from tests.engine.runner.harness import TINYCHAT, Runner, chat, load, load_context
from tests.modelfile.published.llama3 import END_OF_TEXT, END_OF_TURN, llama3


def refusal(**wishes: Any) -> str:
    with pytest.raises(ModelError) as refused:
        load_context(load(**wishes))
    return str(refused.value)


def test_a_missing_file_is_named_to_nobody(tmp_path: Path) -> None:
    text = refusal(path=str(tmp_path / "secret.gguf"))
    assert text.startswith("failed to load model: ")
    assert str(tmp_path) not in text


def test_half_a_file_is_refused(tmp_path: Path) -> None:
    half = tmp_path / "half.gguf"
    half.write_bytes(TINYCHAT.read_bytes()[:1_000_000])
    text = refusal(path=str(half))
    assert text.startswith("failed to load model: ")
    assert str(tmp_path) not in text


def test_a_broken_adapter_is_refused(tmp_path: Path) -> None:
    text = refusal(adapters=(str(tmp_path / "adapter.gguf"),))
    assert text.startswith("failed to load an adapter")
    assert str(tmp_path) not in text


def test_a_quantized_cache_without_flash_attention_is_refused_with_the_reason() -> None:
    text = refusal(cache_type="q8_0", flash_attention=0)
    assert text.startswith("failed to create a context: ")
    assert "flash_attn" in text


def test_the_reason_is_that_of_this_load(tmp_path: Path) -> None:
    refusal(path=str(tmp_path / "secret.gguf"))
    assert "flash_attn" in refusal(cache_type="q4_0", flash_attention=0)


@pytest.mark.parametrize(
    "wishes",
    [{"cache_type": "q8_0"}, {"cache_type": "f32"}, {"cache_type": "no such type"}, {"flash_attention": 0}],
    ids=str,
)
def test_every_kind_of_cache_answers(wishes: dict[str, Any]) -> None:
    runner = Runner(n_cells=512, n_ctx=512, **wishes)
    assert runner.ask(chat("What is the capital of France?")) == "The capital of France is Paris."
    runner.close()


def test_a_load_reports_progress_and_what_it_got() -> None:
    seen: list[float] = []
    context = load_context(load(n_cells=256, n_batch=512), seen.append)
    assert seen == sorted(seen)
    assert seen[-1] == 1.0
    assert context.n_batch == 256  # no more than the cache holds
    assert (context.can_cut, context.can_shift) == (True, True)
    assert 4_000_000 < context.weights < 5_000_000
    context.close()


def test_progress_reaches_its_end_where_the_library_stops_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """As it does where a processor's own layout of weights is copied: with AMX the last number is 0.9966."""
    real = C.llama_progress_callback
    monkeypatch.setattr(C, "llama_progress_callback", lambda report: real(lambda v, u: report(min(v, 0.9966), u)))
    seen: list[float] = []
    load_context(load(n_cells=256), seen.append).close()
    assert seen == sorted(set(seen))
    assert seen[-1] == 1.0


@pytest.mark.parametrize("quantization", QUANTIZATIONS, ids=lambda quantization: quantization.name)
@pytest.mark.parametrize("mapped", [True, False])
def test_what_is_copied_is_known_beforehand(quantization: CheckedQuantization, mapped: bool, tmp_path: Path) -> None:
    """The library is asked which types it copies here; afterwards it says how much that was."""
    path = tmp_path / "model.gguf"
    quantize(path, quantization)
    header = read_header(path)
    weights = sum(tensor.size for tensor in header.tensors)
    context = load_context(load(path=str(path), n_cells=256, use_mmap=mapped))
    context.close()
    expected = copied_bytes(header, copied_types(), mapped=mapped, generates=True)
    if mapped:
        assert 0 < context.mapped <= path.stat().st_size
        assert context.host == pytest.approx(expected, rel=0.02, abs=20_000)
    else:
        assert context.mapped == 0
        assert context.host == pytest.approx(weights + expected, rel=0.02, abs=20_000)


def test_a_full_cache_and_an_abort_are_no_errors(runner: Runner) -> None:
    context = load_context(load(n_cells=256))
    batch = Batch(256)
    batch.add(0, [5] * 200, 0, output=True)
    context.abort.set()
    assert context.decode(batch) == ABORTED
    context.abort.clear()
    assert context.decode(batch) == 0
    batch.clear()
    batch.add(0, [5] * 100, 200, output=True)
    assert context.decode(batch) == NO_SLOT
    assert context.remove(0, 0)
    assert context.decode(batch) == 0
    context.close()


def test_the_most_sequences_that_are_ever_planned_can_be_loaded() -> None:
    runner = Runner(n_parallel=MAX_PARALLEL, n_ctx=256, n_cells=1024)
    assert runner.ask(chat("What is the capital of France?")) == "The capital of France is Paris."
    runner.close()


def test_what_is_said_in_place_of_the_file(tmp_path: Path) -> None:
    path = str(llama3().write(tmp_path / "model.gguf"))
    said = {"tokenizer.ggml.pre": "llama-bpe", "tokenizer.ggml.eos_token_id": END_OF_TURN}
    ends, words = [], []
    for overrides in ({}, said):
        context = load_context(load(path=path, overrides=tuple(overrides.items())))
        ends.append(context.vocabulary.end)
        words.append(len(context.vocabulary.tokenize("zebra", add_special=False)))
        context.close()
    assert ends == [END_OF_TEXT, END_OF_TURN]
    assert words == [len("zebra"), 1]
