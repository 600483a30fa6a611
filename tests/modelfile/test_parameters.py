"""The table of options: types, ranges, aliases, who wins."""

import dataclasses
import math
import re
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.messages import Sampling
from modelfile.parameters import (
    ALIASES,
    PARAMETERS,
    OptionError,
    Options,
    check,
    markdown,
    resolve_options,
    usable,
)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text("a1é", max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("a1é", max_size=3), inner, max_size=3),
    max_leaves=6,
)


def test_defaults() -> None:
    options = resolve_options({}, {})
    assert options == Options()
    assert options.temperature == 0.8
    assert options.repeat_penalty == 1.1
    assert options.num_keep == 4
    assert options.num_ctx is None
    assert options.num_ctx_auto
    assert options.num_batch is None


def test_who_wins() -> None:
    def num_ctx(stored: dict[str, Any], requested: dict[str, Any]) -> int | None:
        return resolve_options(stored, requested, num_ctx=1000).num_ctx

    assert num_ctx({}, {}) == 1000
    assert num_ctx({"num_ctx": 2000}, {}) == 2000
    assert num_ctx({"num_ctx": 2000}, {"num_ctx": 3000}) == 3000
    assert num_ctx({"num_ctx": 2000}, {"num_ctx": None}) == 2000
    assert not resolve_options({}, {}, num_ctx=1000).num_ctx_auto
    assert resolve_options({}, {}, num_ctx=None).num_ctx_auto


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("num_ctx", "big", 'option "num_ctx" must be of type integer'),
        ("num_ctx", True, 'option "num_ctx" must be of type integer'),
        ("temperature", "hot", 'option "temperature" must be of type float32'),
        ("temperature", False, 'option "temperature" must be of type float32'),
        ("use_mmap", 1, 'option "use_mmap" must be of type boolean'),
        ("stop", {"a": 1}, 'option "stop" must be of type array'),
        ("stop", ["a", 1], 'option "stop" must be of an array of strings'),
        ("stop", ["x" * 257], 'option "stop" must have at most 64 strings of 256 bytes'),
        ("max_tokens", "x", 'option "max_tokens" must be of type integer'),
        ("logit_bias", 3, 'option "logit_bias" must be of type map'),
        ("logit_bias", {"the": 1}, 'option "logit_bias" must map token ids to numbers'),
        ("logit_bias", [[1, 2, 3]], 'option "logit_bias" must map token ids to numbers'),
    ],
)
def test_wrong_types(name: str, value: Any, message: str) -> None:
    with pytest.raises(OptionError) as error:
        resolve_options({}, {name: value})
    assert (str(error.value), error.value.name) == (message, name)
    assert resolve_options({name: value}, {}) == Options()
    assert usable({name: value}) == ({}, [message])


def test_integers_are_cut() -> None:
    options = resolve_options({}, {"top_k": 1.9, "num_keep": -7.9, "mirostat": 2.9})
    assert (options.top_k, options.num_keep, options.mirostat) == (1, -1, 2)


@pytest.mark.parametrize(
    ("name", "value", "stored", "message"),
    [
        ("temperature", 100.5, 100, "between 0 and 100"),
        ("temperature", -1, 0, "between 0 and 100"),
        ("temperature", math.nan, 0.8, "a finite number"),
        ("min_p", -math.inf, 0, "a finite number"),
        ("min_p", 2, 1, "between 0 and 1"),
        ("top_p", -0.5, 0, "at least 0"),
        ("typical_p", -0.5, 0, "at least 0"),
        ("top_n_sigma", 101, 100, "at most 100"),
        ("repeat_penalty", 0, 0.01, "between 0.01 and 100"),
        ("repeat_last_n", -2, -1, "at least -1"),
        ("num_ctx", -1, 0, "at least 0"),
        ("num_ctx", math.inf, None, "a finite number"),
        ("num_batch", -5, 0, "at least 0"),
        ("main_gpu", 64, 63, "at most 63"),
        ("mirostat", 3, 2, "between 0 and 2"),
        ("dry_base", 0.5, 1, "between 1 and 100"),
    ],
)
def test_numbers_out_of_range(name: str, value: Any, stored: Any, message: str) -> None:
    """A request is refused, what a model has stored becomes the nearest end or, if it is no number, the default."""
    text = f'option "{name}" must be {message}'
    with pytest.raises(OptionError, match=re.escape(text)) as error:
        resolve_options({}, {name: value})
    assert error.value.name == name
    assert getattr(resolve_options({name: value}, {}), name) == stored
    assert usable({name: value})[1] == [text]


@pytest.mark.parametrize(
    ("name", "value", "meaning"),
    [
        ("num_predict", -2, -1),
        ("num_predict", 0, -1),
        ("num_predict", 2**31, 1 << 24),
        ("max_tokens", -1, -1),
        ("num_keep", -5, -1),
        ("num_keep", 10**9, 1 << 24),
        ("top_k", -1, 0),
        ("top_k", 2**40, 1 << 24),
        ("top_p", 0, 0),
        ("top_p", 1.5, 1),
        ("top_p", 10**400, 1),
        ("typical_p", 2, 1),
        ("top_n_sigma", -7, -1),
        ("repeat_last_n", -1, -1),
        ("repeat_last_n", 2**31, 1 << 24),
        ("dry_penalty_last_n", 2**31, 1 << 24),
        ("dry_allowed_length", 2**31, 1 << 24),
        ("seed", -77, -1),
        ("seed", 2**63 + 1, 2**63 + 1),
        ("seed", 2**80, 2**64 - 1),
        ("num_thread", -1, 0),
        ("num_thread", 10**6, 512),
        ("num_batch", 0, 0),
        ("num_batch", 10**6, 1 << 16),
        ("num_gpu", -2, -1),
        ("num_gpu", 9999, 4096),
        ("main_gpu", -1, 0),
        ("num_ctx", 0, 0),
        ("num_ctx", 10**12, 1 << 24),
        ("draft_num_predict", 1000, 64),
        ("logit_bias", {"7": 10**400}, ((7, 1000.0),)),
    ],
)
def test_numbers_that_clients_send_to_say_all_none_or_automatic(name: str, value: Any, meaning: Any) -> None:
    options = resolve_options({}, {name: value})
    assert getattr(options, ALIASES.get(name, name)) == meaning
    assert not usable({name: value})[1]


def test_stop() -> None:
    assert resolve_options({"stop": "a"}, {}).stop == ("a",)
    assert resolve_options({"stop": ["a"]}, {"stop": ["b", "", "c"]}).stop == ("b", "c")
    assert resolve_options({"stop": ["a"]}, {"stop": []}).stop == ()


def test_num_predict_and_its_alias() -> None:
    assert resolve_options({}, {"max_tokens": 5}).num_predict == 5
    assert resolve_options({}, {"max_tokens": 5, "num_predict": 7}).num_predict == 7
    assert resolve_options({}, {"max_tokens": 5, "num_predict": None}).num_predict == 5
    assert resolve_options({"num_predict": 7}, {"max_tokens": 5}).num_predict == 5
    assert resolve_options({"num_predict": 7}, {"num_predict": 0}).num_predict == -1
    assert resolve_options({}, {"num_predict": -2}).num_predict == -1


def test_logit_bias() -> None:
    wanted = ((5, 1.5), (7, -1000.0))
    assert resolve_options({}, {"logit_bias": {"5": 1.5, "7": False}}).logit_bias == wanted
    assert resolve_options({}, {"logit_bias": [[5, 1.5], [7, -1e9]]}).logit_bias == wanted


def test_unknown_and_removed_options_are_ignored() -> None:
    removed = {"tfs_z": "x", "numa": 3, "low_vram": [], "f16_kv": None, "vocab_only": 1, "use_mlock": 0, "bogus": {}}
    assert resolve_options(removed, removed) == Options()


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(st.sampled_from([*PARAMETERS, "max_tokens", "other"]), json_values, max_size=4))
def test_any_json_gives_safe_options_or_an_option_error(given_options: dict[str, Any]) -> None:
    try:
        options = resolve_options({}, given_options)
    except OptionError:
        return
    for row in PARAMETERS.values():
        value = getattr(options, row.name)
        if row.within is not None and isinstance(value, int | float):
            assert row.within.minimum <= value <= row.within.maximum
            assert type(value) is (int if row.type == "integer" else float)


def test_the_runner_knows_every_sampling_option() -> None:
    options = Options()
    assert Sampling(**{name: getattr(options, name) for name in Sampling.__struct_fields__}) == Sampling()


def test_check_gives_only_what_was_given() -> None:
    assert check({"num_ctx": 10, "bogus": 1, "stop": "x", "top_k": None}) == {"num_ctx": 10, "stop": ("x",)}


def test_the_documented_table_has_a_row_for_each_option() -> None:
    rows = markdown().splitlines()[2:]
    assert [row.split("`")[1] for row in rows] == [field.name for field in dataclasses.fields(Options)]
    assert "| `num_ctx` | integer | automatic | at least 0 |" in markdown()
    assert "| `temperature` | float32 | 0.8 | between 0 and 100 |" in markdown()
    assert '["\\n", ":", "\\"", "*"]' in markdown()
