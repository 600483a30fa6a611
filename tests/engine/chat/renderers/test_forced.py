"""Calls as a family's renderer shows them are what the grammar of its format allows."""

from __future__ import annotations

from typing import Any

import pytest

from engine.api import ChatRequest, Message, ToolCall
from engine.chat.grammar.constraint import chat_constraint
from engine.chat.output import NAMED, ParseContext, ToolSet
from engine.chat.renderers.select import renderer
from tests.engine.chat.output.test_format_spec import GRAMMARS, allowed, may_end
from tests.engine.chat.reading import parsed
from tests.tools import tools_of

PARSERS = {
    **{name: name for name in ("qwen3-coder", "qwen3-vl-instruct", "qwen3.5", "ornith", "cogito", "olmo3")},
    **{name: name for name in ("nemotron-3-nano", "nemotron-3.5-nano", "functiongemma", "glm-4.7", "glm-ocr")},
    **{name: name for name in ("lfm2", "lfm2-thinking", "laguna", "poolside-v1", "cohere", "glimmer")},
    "qwen3.8": "qwen3.5",
    "deepseek3.1": "deepseek3",
    "olmo3.1": "olmo3",
    "gemma4-small": "gemma4",
    "gemma4-large": "gemma4",
}
QUESTION = "What is the weather?"
PROPERTIES = {
    "city": {"type": "string"},
    "days": {"type": "integer"},
    "places": {"type": "array", "items": {"type": "object", "properties": {"lat": {"type": "number"}}}},
    "spot": {"type": "object", "properties": {"name": {"type": "string"}, "size": {"type": "number"}}},
    "unit": {"enum": ["celsius", "kelvin"]},
    "yes": {"type": "boolean"},
}
PARAMETERS = {"type": "object", "properties": PROPERTIES, "required": ["city"]}
TOOLS = tools_of([{"type": "function", "function": {"name": "get_weather", "parameters": PARAMETERS}}])
WHOLE = {
    "city": 'Paris, "the\n old" {one}',
    "days": 3,
    "places": [{"lat": 1.5}, {}],
    "spot": {"name": "a, b", "size": -2},
    "unit": "kelvin",
    "yes": True,
}


def shown(name: str, *calls: dict[str, Any]) -> str:
    """What the renderer shows behind the question, which may begin with an opening and reasoning."""
    made = tuple(ToolCall("get_weather", arguments, f"call_{at}", at) for at, arguments in enumerate(calls))
    messages = [Message("user", QUESTION), Message("assistant", "", tool_calls=made)]
    messages += [Message("tool", "mild", tool_call_id=call.id, tool_name=call.name) for call in made]
    prompt = renderer(name).render(messages, TOOLS, False).text
    return prompt.rpartition(QUESTION)[2]


def taken(parser: str, text: str) -> str:
    """The longest answer that the text begins with and the grammar allows."""
    request = ChatRequest(model="", tools=TOOLS, tool_choice="required")
    constraint = chat_constraint(request, TOOLS, NAMED[parser])
    assert constraint is not None
    matcher = GRAMMARS.matcher(constraint.grammar(ParseContext(ToolSet(TOOLS), think=False)))
    matcher.set_budget(100_000)
    data, found, at = text.encode(), 0, 0
    while at < len(data) and not matcher.finished and data[at] in allowed(matcher):
        matcher.accept(data[at])
        at += 1
        found = at if may_end(matcher) else found
    assert found, f"behind {data[:at].decode()!r} {data[at:].decode()[:30]!r} is not allowed"
    return data[:found].decode()


@pytest.mark.parametrize("name", PARSERS)
@pytest.mark.parametrize("calls", [[WHOLE], [{"city": "Oslo"}, WHOLE, {"city": ""}]], ids=["one", "several"])
def test_what_a_renderer_shows_is_allowed_and_read(name: str, calls: list[dict[str, Any]]) -> None:
    format = NAMED[PARSERS[name]]
    spec, text = format.spec.calls, shown(name, *calls)
    assert spec is not None
    start = text.index((spec.before + spec.opening).partition("\n")[0].partition("{")[0])
    answer = taken(PARSERS[name], text[start:])
    context = ParseContext(ToolSet(TOOLS), think=False)
    assert parsed(format, answer, context) == ("", "", [("get_weather", arguments) for arguments in calls])
