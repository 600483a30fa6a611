"""How much a model is to think, in the ways in which clients say it."""

import json
from typing import Any

import pytest

from server.http.body import FieldError, decode
from server.openai.reasoning import ReasoningFields


def read(**fields: Any) -> ReasoningFields:
    return decode(json.dumps(fields).encode(), ReasoningFields)


@pytest.mark.parametrize(
    ("effort", "think"),
    [
        (None, None),
        ("", None),
        ("none", False),
        ("minimal", "low"),
        ("low", "low"),
        ("medium", "medium"),
        ("high", "high"),
        ("xhigh", "max"),
        ("ultra", "max"),
        ("max", "max"),
    ],
)
def test_effort(effort: str | None, think: Any) -> None:
    assert read(reasoning_effort=effort).think == think
    assert read(reasoning={"effort": effort, "summary": "auto"}).think == think


def test_the_object_counts_first() -> None:
    assert read(reasoning_effort="low", reasoning={"effort": "high"}).think == "high"
    assert read(reasoning_effort="low", reasoning={"effort": "none"}).think is False


def test_template_options() -> None:
    assert read(chat_template_kwargs={"enable_thinking": False}).think is False
    assert read(chat_template_kwargs={"thinking": False}).think is False
    assert read(chat_template_kwargs={"enable_thinking": True, "other": 1}).think is None
    assert read(chat_template_kwargs={"enable_thinking": False}, reasoning_effort="low").think == "low"


@pytest.mark.parametrize(
    ("fields", "param"),
    [({"reasoning_effort": "bogus"}, "reasoning_effort"), ({"reasoning": {"effort": "bogus"}}, "reasoning.effort")],
)
def test_an_unknown_effort(fields: Any, param: str) -> None:
    with pytest.raises(FieldError) as caught:
        read(**fields)
    assert str(caught.value).startswith('invalid reasoning value: "bogus" (must be "minimal", "low", "medium", ')
    assert caught.value.param == param


def test_another_type() -> None:
    with pytest.raises(FieldError, match="cannot unmarshal number into Go struct field") as caught:
        read(reasoning_effort=5)
    assert caught.value.param == "reasoning_effort"
