"""Conversations and the prompts that Ollama's own renderers made of them; collected by tests/test_chat_cases.py."""

from __future__ import annotations

import json
import os
import re
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from engine.chat.jinja.template import RenderError
from engine.chat.renderers import NAMES, NamedRenderer, renderer
from engine.chat.renderers.glimmer import Glimmer
from tests.engine.chat.renderers.conversations import messages
from tests.tools import tools_of

FILE = Path(os.environ.get("PRONK_CHAT_CASES") or Path(__file__).parents[3] / "data" / "chat-format-cases.json")
OTHERS: dict[str, Any] = json.loads(Path(__file__).with_name("recorded.json").read_text(encoding="utf-8"))
CASES: list[dict[str, Any]] = [
    *json.loads(FILE.read_text(encoding="utf-8")).get("renderers", []),
    *({**case, "input": OTHERS["inputs"][case["case"]]} for case in OTHERS["renderers"]),
]
_DAY = re.compile(r"Current date: (\d+-\d+-\d+)")


def renderer_of(case: dict[str, Any]) -> NamedRenderer:
    """The renderer that made a recorded prompt, on the day when it did."""
    if case["renderer"] == "glimmer" and (day := _DAY.search(case["out"])):
        return Glimmer(lambda: date.fromisoformat(day[1]))
    return renderer(case["renderer"])


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['renderer']}: {case['case']}")
def test_prompts(case: dict[str, Any]) -> None:
    source = case["input"]
    family = renderer_of(case)
    if case["err"]:
        with pytest.raises(RenderError, match=re.escape(case["err"])):
            family.render(messages(source["Messages"]), tools_of(source.get("Tools") or []), source.get("Think"))
        return
    prompt = family.render(messages(source["Messages"]), tools_of(source.get("Tools") or []), source.get("Think"))
    assert prompt.text == case["out"]
    assert family.bos == case["leading_bos"]
    assert not prompt.reject_overflow


def test_every_name_has_a_case() -> None:
    assert {case["renderer"] for case in OTHERS["renderers"]} | {"gemma4"} == set(NAMES)
