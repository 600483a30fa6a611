"""Answers with their calls numbered."""

from __future__ import annotations

import re
from itertools import count

import pytest

from engine.api import Delta, ToolCall
from engine.chat.output import NAMED, MalformedCall, OutputParser
from engine.chat.output.parser import random_id
from tests.engine.chat.reading import CONTEXT

CALL = '<tool_call>{"name": "now"}</tool_call>'


def test_each_call_has_an_id_and_a_number() -> None:
    ids = map("id{}".format, count())
    parser = OutputParser(NAMED["qwen3"], CONTEXT, lambda: next(ids))
    assert list(parser.feed(f"a{CALL}{CALL}")) == [
        Delta(content="a"),
        Delta(tool_calls=(ToolCall("now", {}, "id0", 0),)),
        Delta(tool_calls=(ToolCall("now", {}, "id1", 1),)),
    ]
    assert list(parser.feed(CALL, final=True)) == [Delta(tool_calls=(ToolCall("now", {}, "id2", 2),))]


def test_ids_are_random() -> None:
    ids = {random_id() for _ in range(100)}
    assert len(ids) == 100
    assert all(re.fullmatch("call_[a-z0-9]{8}", id) for id in ids)


def test_what_stood_before_a_fault_is_said_first() -> None:
    parsed = []
    with pytest.raises(MalformedCall, match="failed to parse JSON"):
        parsed.extend(OutputParser(NAMED["qwen3"], CONTEXT, str).feed(f"a{CALL}<tool_call>oops</tool_call>"))
    assert parsed == [Delta(content="a"), Delta(tool_calls=(ToolCall("now", {}, "", 0),))]
