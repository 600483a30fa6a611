"""Settings and their bounds."""

from typing import Any

import pytest

from modelfile.convert import ConvertError
from modelfile.convert.config import Config


def test_names_defaults_and_the_text_model() -> None:
    config = Config({"n_embd": 8, "hidden_size": None, "text_config": {"n_head": 2, "n_embd": 4}})
    assert config.positive("hidden_size", "n_embd") == 4
    assert config.integer("n_head") == 2
    assert config.integer("other", default=3) == 3
    assert config.number("other", default=0.5) == 0.5
    assert config.integer_if_there("other") is None
    assert Config({"architectures": ["A"], "text_config": {"architectures": ["B"]}}).architectures == ["A"]


@pytest.mark.parametrize("value", [-1, 1 << 31, 1.5, "8", True, [8]])
def test_no_whole_numbers(value: Any) -> None:
    with pytest.raises(ConvertError, match=r"config\.json: n is no sensible number"):
        Config({"n": value}).integer("n")


@pytest.mark.parametrize("value", ["1", True, 1e39, 10**400, float("inf")])
def test_no_numbers(value: Any) -> None:
    with pytest.raises(ConvertError, match=r"adapter_config\.json: n is no sensible number"):
        Config({"n": value}, "adapter_config.json").number("n")


def test_missing_and_zero() -> None:
    with pytest.raises(ConvertError, match=r"config\.json: a is missing"):
        Config({}).integer("a", "b")
    with pytest.raises(ConvertError, match=r"config\.json: a is 0"):
        Config({"b": 0}).positive("a", "b")


def test_what_is_expected() -> None:
    config = Config({"act": "relu", "none": None})
    config.expect("act", "relu", "silu")
    config.expect("none", 1)
    with pytest.raises(ConvertError, match=r"config\.json: act 'relu' is not supported"):
        config.expect("act", "silu")
