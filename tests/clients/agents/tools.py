"""Twenty tools with schemas like those of coding agents, in the forms of all dialects."""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]

_TEXT = {"type": "string"}
_WHOLE = {"type": "integer", "minimum": 0}
_FLAG = {"type": "boolean"}
_PATH = {"type": "string", "description": "Absolute path"}


def _list(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def _choice(*values: str) -> Schema:
    return {"type": "string", "enum": list(values)}


_TODO = {
    "type": "object",
    "properties": {"content": _TEXT, "status": _choice("pending", "in_progress", "completed"), "id": _TEXT},
    "required": ["content", "status", "id"],
}
_CHANGE: Schema = {"old_string": _TEXT, "new_string": _TEXT, "replace_all": _FLAG}
_EDIT = {"type": "object", "properties": _CHANGE, "required": ["old_string", "new_string"]}

# name: (description, properties, number of properties that are required)
_TOOLS: dict[str, tuple[str, Schema, int]] = {
    "Bash": ("Run a command", {"command": _TEXT, "timeout": _WHOLE, "run_in_background": _FLAG}, 1),
    "BashOutput": ("Output of a command in the background", {"bash_id": _TEXT, "filter": _TEXT}, 1),
    "KillShell": ("Stop a command in the background", {"shell_id": _TEXT}, 1),
    "Read": ("Read a file", {"file_path": _PATH, "offset": _WHOLE, "limit": _WHOLE}, 1),
    "Write": ("Write a file", {"file_path": _PATH, "content": _TEXT}, 2),
    "Edit": ("Replace text in a file", {"file_path": _PATH, **_CHANGE}, 3),
    "MultiEdit": ("Make several edits in one file", {"file_path": _PATH, "edits": _list(_EDIT)}, 2),
    "Glob": ("Find files by pattern", {"pattern": _TEXT, "path": _PATH}, 1),
    "Grep": (
        "Search in files",
        {"pattern": _TEXT, "path": _PATH, "output_mode": _choice("content", "count"), "-i": _FLAG, "-n": _FLAG},
        1,
    ),
    "LS": ("List a directory", {"path": _PATH, "ignore": _list(_TEXT)}, 1),
    "NotebookRead": ("Read a notebook", {"notebook_path": _PATH}, 1),
    "NotebookEdit": (
        "Edit a cell of a notebook",
        {"notebook_path": _PATH, "new_source": _TEXT, "cell_id": _TEXT, "edit_mode": _choice("replace", "insert")},
        2,
    ),
    "WebFetch": ("Fetch a page", {"url": {"type": "string", "format": "uri"}, "prompt": _TEXT}, 2),
    "Search": ("Search the web", {"query": {"type": "string", "minLength": 2}, "domains": _list(_TEXT)}, 1),
    "TodoWrite": ("Write the list of tasks", {"todos": _list(_TODO)}, 1),
    "Task": ("Start an agent", {"description": _TEXT, "prompt": _TEXT, "subagent_type": _TEXT}, 3),
    "ExitPlanMode": ("Leave plan mode", {"plan": _TEXT}, 1),
    "AskUser": ("Ask the user", {"question": _TEXT, "options": _list(_TEXT)}, 1),
    "ListResources": ("List resources of MCP servers", {"server": _TEXT}, 0),
    "ReadResource": ("Read a resource of an MCP server", {"server": _TEXT, "uri": _TEXT}, 2),
}


def _schema(properties: Schema, required: int) -> Schema:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties)[:required],
        "additionalProperties": False,
    }


NAMES = tuple(_TOOLS)
CHAT_TOOLS: list[Schema] = [
    {
        "type": "function",
        "function": {"name": name, "description": description, "parameters": _schema(properties, required)},
    }
    for name, (description, properties, required) in _TOOLS.items()
]
RESPONSES_TOOLS: list[Schema] = [{"type": "function", "strict": False, **tool["function"]} for tool in CHAT_TOOLS]
ANTHROPIC_TOOLS: list[Schema] = [
    {"name": name, "description": description, "input_schema": _schema(properties, required)}
    for name, (description, properties, required) in _TOOLS.items()
]
