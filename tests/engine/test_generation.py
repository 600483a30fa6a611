"""What requests may ask of a model's process, and what is made of it."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from engine.generation import MOST_TEXT, both_ends, clamped, count_thinking, max_characters
from engine.loading.derivations import Weights
from engine.loading.devices import usable_processors
from engine.loading.load_options import load_spec
from engine.messages import Chunk
from engine.model import Model, Models
from modelfile.parameters import resolve_options
from registry.storage.store import Store


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return Models(Store(tmp_path_factory.mktemp("models"))).resolve("tinychat")


def test_what_is_beyond_the_machine_is_clamped_and_told(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        options = clamped(resolve_options({}, {"num_thread": 512, "num_batch": 60_000}), n_batch=512)
    assert (options.num_thread, options.num_batch) == (usable_processors(), 512)
    assert [record.getMessage().split()[0] for record in caplog.records] == ["num_thread", "num_batch"]


def test_what_the_machine_has_is_given_silently(caplog: pytest.LogCaptureFixture) -> None:
    for wishes in ({}, {"num_thread": 1, "num_batch": 512}, {"num_thread": 0}):
        options = resolve_options({}, wishes)
        assert clamped(options, n_batch=512) == options
    assert not caplog.records


def test_a_models_own_threads_count_as_wished() -> None:
    assert clamped(resolve_options({"num_thread": 1}, {}), 512).num_thread == 1
    assert clamped(resolve_options({"num_thread": 1}, {"num_thread": 0}), 512).num_thread == 0


def test_how_much_text_a_context_might_hold(model: Model) -> None:
    longest = max(len(text.encode()) for text in model.header.metadata["tokenizer.ggml.tokens"].values())
    assert max_characters(model, 1024) == 1024 * longest
    assert max_characters(model, 1 << 40) == MOST_TEXT


def test_tokens_that_no_prompt_can_use_are_left_out() -> None:
    assert both_ends([1, 2, 3, 4], 2) == [1, 2, 3, 4]
    assert both_ends([1, 2, 3, 4, 5], 2) == [1, 2, 4, 5]


@pytest.mark.parametrize(
    ("wishes", "gpus", "placement"),
    [
        ({}, 0, (-1, None, None)),
        ({"num_gpu": 5, "main_gpu": 3, "use_mmap": True}, 0, (-1, None, True)),
        ({"num_gpu": 5, "main_gpu": 0, "use_mmap": False}, 1, (5, None, False)),
        ({"main_gpu": 1}, 2, (-1, 1, None)),
        ({"main_gpu": 2}, 2, (-1, None, None)),
        ({"num_thread": 7, "num_batch": 9}, 2, (-1, None, None)),
    ],
)
def test_wishes_that_change_nothing_here_are_none(
    model: Model, wishes: dict[str, Any], gpus: int, placement: tuple[Any, ...]
) -> None:
    weights = Weights(model.weights, model.header)
    assert load_spec(model, weights, resolve_options({}, wishes), 4096, gpus).placement == placement


@pytest.mark.parametrize(
    ("thoughts", "offset", "count"),
    [
        ([], 0, 0),
        ([(8, 15)], 0, 2),  # exactly " one two"
        ([(7, 15)], 0, 2),
        ([(8, 23)], 0, 5),  # "…</think>" is one chunk of three tokens
        ([(8, 17)], 0, 3),  # a third of it
        ([(0, 3), (8, 11)], 0, 1),
        ([(3, 19)], 4, 3),  # four characters were in the prompt
        ([(0, 40)], 0, 6),
    ],
)
def test_tokens_of_reasoning(thoughts: list[tuple[int, int]], offset: int, count: int) -> None:
    chunks = [
        Chunk(1, "<think>", 1),
        Chunk(1, " one", 2),
        Chunk(1, " two", 3),
        Chunk(1, "</think>", 6),
        Chunk(1, "", 7),
    ]
    assert count_thinking(chunks, thoughts, offset) == count
