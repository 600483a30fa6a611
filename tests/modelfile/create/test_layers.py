"""The bytes of parameters and messages, which decide their digests."""

import hashlib
import json

from hypothesis import given
from hypothesis import strategies as st

from modelfile.conversation import Message, ToolCall
from modelfile.create.layers import encode_messages, encode_parameters

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.floats(allow_nan=False, allow_infinity=False).map(lambda value: value + 0.0)  # -0.0 is read as the int 0
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)


def test_recorded_parameters() -> None:
    data = encode_parameters({"top_p": 0.7, "top_k": 10, "temperature": 0.6, "stop": ["<|endoftext|>"]})
    assert data == b'{"stop":["\\u003c|endoftext|\\u003e"],"temperature":0.6,"top_k":10,"top_p":0.7}\n'


def test_recorded_messages() -> None:
    said = [("assistant", "What is my purpose?"), ("user", "You run tests."), ("assistant", "Oh, my god.")]
    data = encode_messages(Message(role, content) for role, content in said)
    assert hashlib.sha256(data).hexdigest() == "298baeaf6928a60cf666d88d64a1ba606feb43a2865687c39e40652e407bffc4"


def test_a_message_with_everything() -> None:
    calls = (
        ToolCall("f", {"b": 1, "a": [{"y": 1, "x": 2}]}),
        ToolCall("g", {}, "c", 1),
    )
    data = encode_messages([Message("assistant", "", "hm", (b"hi",), calls, "tool", "id")])
    assert data == (
        b'[{"role":"assistant","content":"","thinking":"hm","images":["aGk="],"tool_calls":['
        b'{"function":{"index":0,"name":"f","arguments":{"b":1,"a":[{"x":2,"y":1}]}}},'
        b'{"id":"c","function":{"index":1,"name":"g","arguments":{}}}],"tool_name":"tool","tool_call_id":"id"}]\n'
    )


@given(st.dictionaries(st.text(max_size=5), values, max_size=5))
def test_parameters_read_back_as_they_were(parameters: dict[str, object]) -> None:
    """Up to numbers, which are float64 there as everywhere in JSON."""
    data = encode_parameters(parameters)
    assert as_floats(json.loads(data)) == as_floats(parameters)
    assert list(json.loads(data)) == sorted(parameters)
    assert encode_parameters(json.loads(data)) == data


def as_floats(value: object) -> object:
    if isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, dict):
        return {key: as_floats(item) for key, item in value.items()}
    return [as_floats(item) for item in value] if isinstance(value, list) else value
