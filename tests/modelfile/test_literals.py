"""Values of parameters in a Modelfile."""

import json
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelfile.literals import add_parameter
from modelfile.parameters import PARAMETERS, OptionError, resolve_options


def read(name: str, *texts: str) -> Any:
    """The stored value after one PARAMETER command for each text."""
    parameters: dict[str, Any] = {}
    for text in texts:
        add_parameter(parameters, name, text)
    return parameters[name]


@pytest.mark.parametrize(
    ("name", "text", "stored"),
    [
        ("seed", "007", "7"),
        ("seed", "+5", "5"),
        ("seed", "-9223372036854775808", "-9223372036854775808"),
        ("seed", "0" * 9000 + "1", "1"),
        ("temperature", "0.7", "0.7"),
        ("temperature", "1", "1.0"),
        ("temperature", "1e3", "1000.0"),
        ("temperature", "-.5", "-0.5"),
        ("temperature", "5.", "5.0"),
        ("temperature", "0x1p-2", "0.25"),
        ("temperature", "-0X.8P1", "-1.0"),
        ("temperature", "1_000.5", "1000.5"),
        ("temperature", "0.1234567890123", "0.12345679"),
        ("temperature", "3.4028235e38", "3.4028235e+38"),
        ("temperature", "1e-60", "0.0"),
        ("use_mmap", "T", "true"),
        ("use_mmap", "0", "false"),
        ("stop", "", '[""]'),
        ("penalize_newline", "false", "false"),
        ("mirostat", "2", "2"),
        ("dry_multiplier", "0.8", "0.8"),
        ("dry_sequence_breakers", ":", '[":"]'),
        ("logit_bias", '{"5": 1.5, "7": false}', '{"5": 1.5, "7": -1000.0}'),
        ("logit_bias", "[[5, 1]]", '{"5": 1.0}'),
    ],
)
def test_values(name: str, text: str, stored: str) -> None:
    assert json.dumps(read(name, text)) == stored


def test_lists_grow_and_the_last_of_all_others_counts() -> None:
    assert read("stop", "a", "", "b", "a") == ["a", "", "b", "a"]
    assert read("top_k", "1", "2") == 2


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("numa", "true", "unknown parameter 'numa'"),
        ("Top_K", "1", "unknown parameter 'Top_K'"),
        ("max_tokens", "1", "unknown parameter 'max_tokens'"),
        ("", "1", "unknown parameter ''"),
        ("top_k", "", "invalid int value []"),
        ("top_k", "1.5", "invalid int value [1.5]"),
        ("top_k", "1_0", "invalid int value [1_0]"),
        ("top_k", "١", "invalid int value [١]"),
        ("seed", "9223372036854775808", "invalid int value [9223372036854775808]"),
        ("temperature", "abc", "invalid float value [abc]"),
        ("temperature", "", "invalid float value []"),
        ("temperature", "0.5 0.6", "invalid float value [0.5 0.6]"),
        ("temperature", " 0.5", "invalid float value [ 0.5]"),
        ("temperature", "1__0", "invalid float value [1__0]"),
        ("temperature", "0x1", "invalid float value [0x1]"),
        ("temperature", "0x1p99999", "invalid float value [0x1p99999]"),
        ("temperature", "3.5e38", "invalid float value [3.5e38]"),
        ("temperature", "inf", "invalid float value [inf]"),
        ("temperature", "NaN", "invalid float value [NaN]"),
        ("use_mmap", "yes", "invalid bool value [yes]"),
        ("use_mmap", "tRUE", "invalid bool value [tRUE]"),
        ("logit_bias", "5", 'option "logit_bias" must be of type map'),
        ("logit_bias", "5=1", "invalid map value [5=1]"),
        ("logit_bias", "[" * 100_000, f"invalid map value [{'[' * 100_000}]"),
        ("stop", "x" * 257, 'option "stop" must have at most 64 strings of 256 bytes'),
    ],
)
def test_bad_values(name: str, text: str, message: str) -> None:
    with pytest.raises(OptionError) as error:
        read(name, text)
    assert str(error.value) == message


@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_a_float_keeps_its_32_bits(value: float) -> None:
    assert struct.pack("<f", read("temperature", repr(value))) == struct.pack("<f", value)


@given(
    st.sampled_from([name for name in PARAMETERS if name != "logit_bias"]), st.text(max_size=5) | st.integers().map(str)
)
def test_what_is_stored_can_be_loaded(name: str, text: str) -> None:
    try:
        stored = {name: read(name, text)}
    except OptionError:
        return
    resolve_options(json.loads(json.dumps(stored, allow_nan=False)), {})
