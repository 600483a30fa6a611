"""Recorded cases: what Go and Ollama made of templates, and the inputs in our types."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from modelfile.conversation import Message, ToolCall
from modelfile.gotemplate import Conversation, Template, TemplateError
from modelfile.gotemplate.limits import DEFAULT_LIMITS, Budget, Buffer, Limits
from modelfile.gotemplate.strings import printable
from tests.tools import tools_of

DATA = Path(__file__).resolve().parents[2] / "data"
RECORDED: dict[str, Any] = json.loads(
    Path(os.environ.get("PRONK_CHAT_CASES", DATA / "chat-format-cases.json")).read_text()
)
"""PRONK_CHAT_CASES=FILE reads another file of the same form."""
ANSWERS: dict[str, Any] = json.loads((DATA / "go-template-answers.json").read_text())

Case = dict[str, Any]


def section(name: str) -> list[Case]:
    """The cases of a section, which another file may lack."""
    found: Any = RECORDED.get(name, [])
    return found if isinstance(found, list) else list(found.get("cases", []))


def label(case: Case) -> str:
    """How pytest names a case."""
    return str(case.get("name") or case["template"])[:60]


def outcome(action: Callable[[], Any]) -> tuple[Any, str | None]:
    """The result of an action, or the text of its error."""
    try:
        return action(), None
    except TemplateError as error:
        return None, str(error)


def execute(template: Template, data: Any, limits: Limits = DEFAULT_LIMITS) -> str:
    """The text that a template makes of `data`."""
    output = Buffer(Budget(limits))
    template.write(data, output)
    return printable(output.text())


def conversation(given: dict[str, Any]) -> Conversation:
    """A conversation from the JSON of requests."""
    tools = given.get("Tools")
    return Conversation(
        messages=[_message(message) for message in given.get("Messages") or []],
        tools=None if tools is None else tools_of(tools),
        think=given.get("Think"),
        prompt=given.get("Prompt", ""),
        suffix=given.get("Suffix", ""),
    )


def _message(given: dict[str, Any]) -> Message:
    return Message(
        role=given["role"].lower(),
        content=given.get("content", ""),
        thinking=given.get("thinking", ""),
        images=tuple(base64.b64decode(image) for image in given.get("images", [])),
        tool_calls=tuple(_tool_call(call) for call in given.get("tool_calls", [])),
        tool_name=given.get("tool_name", ""),
        tool_call_id=given.get("tool_call_id", ""),
    )


def _tool_call(given: dict[str, Any]) -> ToolCall:
    function = given["function"]
    return ToolCall(function["name"], function.get("arguments"), given.get("id", ""), function.get("index", 0))
