"""Tools that requests name only by a type, because Anthropic defines their schemas.

The client runs them all but `web_search`, which needs a service that this server does not have.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class KnownTool:
    """A tool whose types begin with `prefix`; what follows is the date of a version."""

    prefix: str
    description: str
    input_schema: dict[str, Any]


def _schema(properties: dict[str, Any], *required: str) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(required)}


def _text(description: str, *choices: str) -> dict[str, Any]:
    return {"type": "string", "description": description} | ({"enum": list(choices)} if choices else {})


def _integers(description: str) -> dict[str, Any]:
    return {"type": "array", "items": {"type": "integer"}, "description": description}


_LINES = _integers("First and last line to show, from 1; -1 is the end of the file")
_BASH = _schema(
    {
        "command": _text("The command to run"),
        "restart": {"type": "boolean", "description": "Restart the shell instead of running a command"},
    }
)
_TEXT_EDITOR = _schema(
    {
        "command": _text("What to do", "view", "create", "str_replace", "insert"),
        "path": _text("Absolute path of the file or directory"),
        "file_text": _text("create: the text of the new file"),
        "old_str": _text("str_replace: the text to replace, which must occur exactly once"),
        "new_str": _text("str_replace: the text in its place"),
        "insert_line": {"type": "integer", "description": "insert: the line after which the text goes, 0 for the top"},
        "insert_text": _text("insert: the text"),
        "view_range": _LINES,
    },
    "command",
    "path",
)
_MEMORY = _schema(
    {
        "command": _text("What to do", "view", "create", "str_replace", "insert", "delete", "rename"),
        "path": _text("Path of the file or directory, below /memories"),
        "view_range": _LINES,
        "file_text": _text("create: the text of the new file"),
        "old_str": _text("str_replace: the text to replace, which must occur exactly once"),
        "new_str": _text("str_replace: the text in its place"),
        "insert_line": {"type": "integer", "description": "insert: the line after which the text goes, 0 for the top"},
        "insert_text": _text("insert: the text"),
        "old_path": _text("rename: the path as it is"),
        "new_path": _text("rename: the path as it shall be"),
    },
    "command",
)
_COMPUTER = _schema(
    {
        "action": _text(
            "What to do",
            *("key", "type", "mouse_move", "left_click", "left_click_drag", "right_click", "middle_click"),
            *("double_click", "triple_click", "screenshot", "cursor_position", "left_mouse_down", "left_mouse_up"),
            *("scroll", "hold_key", "wait", "zoom"),
        ),
        "coordinate": _integers("x and y in pixels from the top left"),
        "start_coordinate": _integers("left_click_drag: where it begins"),
        "text": _text("type: the text; key, hold_key: the keys, such as ctrl+s"),
        "scroll_direction": _text("scroll: where to", "up", "down", "left", "right"),
        "scroll_amount": {"type": "integer", "description": "scroll: how far"},
        "duration": {"type": "number", "description": "hold_key, wait: seconds"},
        "region": _integers("zoom: x and y of the top left and of the bottom right"),
    },
    "action",
)

CLIENT_TOOLS = (
    KnownTool("bash_", "Run commands in a bash shell that keeps its state", _BASH),
    KnownTool("text_editor_", "View, create and edit text files", _TEXT_EDITOR),
    KnownTool("memory_", "Keep notes for later conversations in files", _MEMORY),
    KnownTool("computer_2", "Use a computer's screen, mouse and keyboard", _COMPUTER),
)

WEB_SEARCH = KnownTool("web_search", "Search the web", _schema({"query": _text("What to search for")}, "query"))
