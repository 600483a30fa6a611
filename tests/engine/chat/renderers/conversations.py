"""Conversations as JSON and as hypothesis makes them, in our types."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from typing import Any

from hypothesis import strategies as st

from engine.api import Message, Tool, ToolCall
from modelfile.conversation import Property

ROLES = ("user", "assistant", "tool", "system", "developer", "critic", "")
THINK = (None, True, False, "low", "medium", "high", "max")


def messages(source: Iterable[dict[str, Any]]) -> list[Message]:
    """The messages of a request's JSON."""
    return [
        Message(
            role=item["role"],
            content=item.get("content", ""),
            thinking=item.get("thinking", ""),
            images=tuple(map(base64.b64decode, item.get("images") or ())),
            tool_calls=tuple(map(_call, item.get("tool_calls") or ())),
            tool_name=item.get("tool_name", ""),
            tool_call_id=item.get("tool_call_id", ""),
        )
        for item in source
    ]


def _call(source: dict[str, Any]) -> ToolCall:
    function = source["function"]
    return ToolCall(function["name"], function.get("arguments") or {}, source.get("id", ""), function.get("index", 0))


TEXTS = st.sampled_from(
    ("", "Hi", " padded\n", "<think>a</think>b", "x</think>", "<tool_response>", "[img]", "é\u2028")
)
NUMBERS = st.integers() | st.floats() | st.just(10**400)
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)
TYPES = st.lists(st.sampled_from(("object", "array", "string", "null")) | TEXTS, max_size=2).map(tuple)
NAMES = st.sampled_from(("city", "type", ""))
TUPLE_OF_TEXTS = st.lists(TEXTS, max_size=2).map(tuple)


def _properties(schemas: st.SearchStrategy[Property]) -> st.SearchStrategy[dict[str, Property] | None]:
    return st.none() | st.dictionaries(NAMES, schemas, max_size=2)


def _schemas(inner: st.SearchStrategy[Property]) -> st.SearchStrategy[Property]:
    return st.builds(
        Property,
        any_of=st.lists(inner, max_size=2).map(tuple),
        type=TYPES,
        items=JSON,
        description=TEXTS,
        enum=st.lists(JSON, max_size=2).map(tuple),
        properties=_properties(inner),
        required=TUPLE_OF_TEXTS,
    )


SCHEMAS = st.recursive(st.builds(Property, type=TYPES), _schemas, max_leaves=6)
TOOLS = st.lists(
    st.builds(
        Tool,
        name=TEXTS,
        description=TEXTS,
        type=TEXTS,
        items=JSON,
        parameters_type=TEXTS,
        parameters_items=JSON,
        defs=JSON,
        required=TUPLE_OF_TEXTS,
        properties=_properties(SCHEMAS),
    ),
    max_size=2,
)
CALLS = st.builds(ToolCall, TEXTS, st.dictionaries(TEXTS, JSON, max_size=3), TEXTS)
MESSAGES = st.builds(
    Message,
    role=st.sampled_from(ROLES),
    content=TEXTS,
    thinking=TEXTS,
    images=st.lists(st.just(b"\x89PNG"), max_size=2).map(tuple),
    tool_calls=st.lists(CALLS, max_size=2).map(tuple),
    tool_name=TEXTS,
    tool_call_id=TEXTS,
)
