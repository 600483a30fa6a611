"""Messages as a template sees them, and how those of one role become one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from itertools import chain, groupby
from operator import attrgetter

from modelfile.conversation import Message
from modelfile.gotemplate.encoding import print_as_object
from modelfile.gotemplate.values import (
    ANY,
    INT,
    STRING,
    UINT8,
    MapType,
    Member,
    PointerType,
    SliceType,
    StructType,
)


def collate(messages: Iterable[Message]) -> list[Message]:
    """Neighbours of the same role as one message, except results of tools.

    Of what is not text the first one's stays, but no tool call is lost.
    """
    collated: list[Message] = []
    for role, group in groupby(messages, attrgetter("role")):
        first, *others = group
        if role == "tool" or not others:
            collated += first, *others
            continue
        content = "\n\n".join(message.content for message in (first, *others))
        calls = chain.from_iterable(message.tool_calls for message in (first, *others))
        collated.append(replace(first, content=content, tool_calls=tuple(calls)))
    return collated


def system_text(messages: Iterable[Message]) -> str:
    """What all system messages say together."""
    return "\n\n".join(message.content for message in messages if message.role == "system")


_ARGUMENTS = MapType("template.templateArgs", ANY, methods={"String": print_as_object})
_CALLED = StructType(
    "template.templateToolCallFunction",
    (Member("Index", INT, "index"), Member("Name", STRING, "name"), Member("Arguments", _ARGUMENTS, "arguments")),
)
_TOOL_CALL = StructType("template.templateToolCall", (Member("ID", STRING, "id"), Member("Function", _CALLED, "")))
_IMAGE = SliceType("api.ImageData", UINT8)
_MESSAGE = StructType(
    "template.templateMessage",
    (
        Member("Role", STRING, "role"),
        Member("Content", STRING, "content"),
        Member("Thinking", STRING, "thinking"),
        Member("Images", SliceType("[]api.ImageData", _IMAGE), "images"),
        Member("ToolCalls", SliceType("[]template.templateToolCall", _TOOL_CALL), "tool_calls"),
        Member("ToolName", STRING, "tool_name"),
        Member("ToolCallID", STRING, "tool_call_id"),
    ),
)
MESSAGES = SliceType("[]*template.templateMessage", PointerType("*template.templateMessage", _MESSAGE))
"""The type of `.Messages`; its data is a list of `Message`, or None."""
