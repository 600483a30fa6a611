"""`tool_choice`, in the shape that OpenAI gave it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from engine.requests import NamedTool, ToolChoice
from server.gojson import plain
from server.gotypes import Kind, custom

_HELP = '"auto", "none", "required" or {"type":"function","function":{"name":…}}'
_WORDS: Mapping[str, ToolChoice] = {"": "auto", "auto": "auto", "none": "none", "required": "required"}


def parse_tool_choice(value: Any) -> ToolChoice:
    """A word, or the function that must be called; an empty text is as none given. Raises ValueError."""
    if isinstance(value, str) and value in _WORDS:
        return _WORDS[value]
    match plain(value):
        case {"type": "function", "function": {"name": str(name)}}:
            return NamedTool(name)
    raise ValueError(f"invalid tool_choice: {json.dumps(plain(value), ensure_ascii=False)} (must be {_HELP})")


TOOL_CHOICE: Kind[ToolChoice] = custom("api.ToolChoice", "auto", parse_tool_choice)
