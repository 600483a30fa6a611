"""Whatever the grammar of a required call lets a model write, the reader of its format makes valid calls of it."""

from __future__ import annotations

from random import Random
from typing import Any

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.api import ChatRequest, Tool
from engine.chat.grammar.constraint import chat_constraint
from engine.chat.output import ParseContext, ToolSet
from tests.engine.chat.output.sampling import PARAMETERS, sample
from tests.engine.chat.output.test_format_spec import FORCED
from tests.engine.chat.reading import parsed

DISTINCT = list({format.spec.calls: name for name, format in FORCED.items()}.values())
FUNCTIONS = ("get_weather", "add")


def declared(schemas: dict[str, Any]) -> tuple[Tool, ...]:
    return tuple(Tool(name, sent=schemas[name]) for name in schemas)


@pytest.mark.parametrize("name", DISTINCT)
@settings(max_examples=2, suppress_health_check=list(HealthCheck))
@given(
    schemas=st.fixed_dictionaries(dict.fromkeys(FUNCTIONS, PARAMETERS)),
    seed=st.integers(0, 2**32),
    spelled=st.booleans(),
)
def test_every_answer_is_a_valid_call(name: str, schemas: dict[str, Any], seed: int, spelled: bool) -> None:
    format, spec = FORCED[name], FORCED[name].spec.calls
    assert spec is not None
    tools = declared(schemas)
    context = ParseContext(ToolSet(tools), think=False)
    constraint = chat_constraint(ChatRequest(model="", tools=tools, tool_choice="required"), tools, format)
    assert constraint is not None
    grammar = constraint.grammar(context)
    marks = [*spec.reserved, *grammar.marks, *grammar.closings, "null", "\n", "True", "</p>"]
    text = sample(grammar, Random(seed), marks, spelled=spelled)
    content, _, calls = parsed(format, text, context)
    assert content == "", text
    assert calls, text
    for function, arguments in calls:
        jsonschema.validate(arguments, schemas[function])
        assert set(arguments) <= set(schemas[function]["properties"])
