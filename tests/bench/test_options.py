"""The options of the bench are the defaults of the API."""

from __future__ import annotations

from bench import options
from engine.messages import Sampling


def test_options_are_the_defaults() -> None:
    said = Sampling(
        temperature=options.TEMPERATURE,
        top_k=options.TOP_K,
        top_p=options.TOP_P,
        min_p=options.MIN_P,
        repeat_last_n=options.REPEAT_LAST_N,
        repeat_penalty=options.REPEAT_PENALTY,
    )
    assert said == Sampling()


def test_a_request_asks_for_its_number_of_tokens() -> None:
    assert options.request_options(64)["num_predict"] == 64
