"""Positions in both forms of config.json."""

from typing import Any

import pytest

from modelfile.convert import ConvertError
from modelfile.convert.config import Config
from modelfile.convert.rope import read_rope

YARN = {"factor": 4.0, "original_max_position_embeddings": 32768, "beta_fast": 32, "attention_factor": None}


@pytest.mark.parametrize(
    ("config", "keys"),
    [
        ({}, {}),
        ({"rope_theta": 5e5, "rope_scaling": None}, {"freq_base": 5e5}),
        ({"rope_parameters": {"rope_type": "default", "rope_theta": 10000}}, {"freq_base": 10000.0}),
        ({"rotary_emb_base": 1000}, {"freq_base": 1000.0}),
        (
            {"rope_theta": 1e4, "rope_scaling": {"type": "linear", "factor": 2}},
            {"scaling.type": "linear", "scaling.factor": 2.0, "freq_base": 1e4},
        ),
        (
            {"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e6, **YARN}},
            {
                "scaling.type": "yarn",
                "scaling.factor": 4.0,
                "scaling.original_context_length": 32768,
                "scaling.yarn_beta_fast": 32.0,
                "freq_base": 1e6,
            },
        ),
        (
            {"rope_parameters": {"full_attention": {"rope_theta": 1e6}, "sliding_attention": {"rope_theta": 1e4}}},
            {"freq_base": 1e6, "freq_base_swa": 1e4},
        ),
        ({"rope_theta": 1e6, "rope_local_base_freq": 1e4}, {"freq_base": 1e6, "freq_base_swa": 1e4}),
        ({"rope_theta": 1e6, "rope_scaling": {"rope_type": "dynamic", "factor": 2.0}}, {"freq_base": 1e6}),
    ],
)
def test_keys(config: dict[str, Any], keys: dict[str, Any]) -> None:
    assert read_rope(Config(config)).metadata("x") == {f"x.rope.{key}": value for key, value in keys.items()}


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"rope_scaling": {"rope_type": "spiral"}}, "rope type 'spiral' is not supported"),
        ({"rope_scaling": {"rope_type": "linear"}}, "factor of the rope settings is missing"),
        ({"rope_scaling": {"rope_type": "linear", "factor": -1}}, "factor is -1"),
        ({"rope_scaling": {"rope_type": "linear", "factor": "2"}}, "factor is no sensible number"),
        ({"rope_theta": 0}, "rope_theta is 0"),
        ({"rope_parameters": []}, ""),
        ({"rope_parameters": [1]}, "rope_parameters is not an object"),
    ],
)
def test_what_is_refused(config: dict[str, Any], message: str) -> None:
    if not message:
        assert read_rope(Config(config)).metadata("x") == {}
        return
    with pytest.raises(ConvertError) as error:
        read_rope(Config(config)).metadata("x")
    assert str(error.value) == f"config.json: {message}"


def test_llama3_factors() -> None:
    settings = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    rope = read_rope(
        Config({"rope_theta": 5e5, "rope_scaling": {**settings, "original_max_position_embeddings": 8192}})
    )
    factors = rope.llama3_factors(128)
    assert factors is not None
    assert len(factors) == 64
    assert factors[:28] == [1.0] * 28
    assert 1 < factors[30] < factors[31] < 8
    assert factors[40:] == [8.0] * 24
    assert read_rope(Config({})).llama3_factors(128) is None
    with pytest.raises(ConvertError, match="head_dim 1000000 is too large"):
        rope.llama3_factors(1_000_000)
