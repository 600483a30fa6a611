"""What is said to the processes that render chat templates, and what they say: typed msgpack, no logic.

Every frame on a socket is a little-endian u32 length and a msgpack body: one `Render` to the process, then one `Reply`
from it. To the process that forks the others goes an `ORDER`, with a socket if it is to fork; `ENDED` comes from it.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from typing import Any, Literal

import msgspec

from engine.api import Delta, Message, Think, Tool, ToolCall
from engine.chat.jinja.adapt import definition
from engine.messages import FRAME_HEADER

LARGEST = 8 << 20  # characters of any text, items of any list
CHATML = (
    "{%- for message in messages -%}"
    "{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' -}}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}"
)
"""For models that bring no template."""

ORDER = struct.Struct("<cI")
"""What the process is to do that forks others, and the number by which both sides know the one it is about."""

FORK, FORK_SLOW, KILL = b"f", b"s", b"k"
"""Fork one; fork one that lets others go first; end one."""

ENDED = struct.Struct("<Ii")
"""The number of one that has ended, and its exit status, a signal's number below zero; 0: it is ready to fork."""


class ChatTemplates(msgspec.Struct, array_like=True, frozen=True):
    """The chat templates of a model, `with_tools` for requests with tools if not empty, and the tokens they print."""

    usual: str = CHATML
    with_tools: str = ""
    bos: str = ""
    eos: str = ""


class Render(msgspec.Struct, array_like=True, frozen=True):
    """Write a prompt in `seconds` of CPU time. `templates` are sent once to each process, then `key` stands for them.

    `conversation` is what `encode_conversation` made.
    """

    key: bytes
    seconds: float
    conversation: msgspec.Raw
    templates: ChatTemplates | None = None


class Prompted(msgspec.Struct, array_like=True, frozen=True, tag=1):
    """The prompt. `last`: this process ends now, here as below."""

    text: str
    begun: Delta | None
    reject_overflow: bool
    last: bool


class Refused(msgspec.Struct, array_like=True, frozen=True, tag=2):
    """There is none. "template": it cannot be read, or gave up; "time", "memory": it takes more than it may have;
    "unknown": the process does not have these templates (any more); "defect": ours, `text` is a traceback."""

    why: Literal["template", "time", "memory", "unknown", "defect"]
    text: str
    last: bool


Reply = Prompted | Refused


class _Conversation(msgspec.Struct, array_like=True, frozen=True):
    """Messages as tuples; of images only the number is told. What users gave as JSON is the text of it."""

    messages: list[tuple[str, str, str, int, list[tuple[str, str, str, int]], str, str]]
    tools: list[str]
    think: Think | None


_encoder = msgspec.msgpack.Encoder()
_conversation_decoder = msgspec.msgpack.Decoder(_Conversation)
render_decoder = msgspec.msgpack.Decoder(Render)
reply_decoder: msgspec.msgpack.Decoder[Reply] = msgspec.msgpack.Decoder(Reply)


def encode_frame(message: Render | Reply) -> bytes:
    """The bytes of one frame, header included. Raises UnicodeEncodeError for texts with half of a character."""
    body = _encoder.encode(message)
    return FRAME_HEADER.pack(len(body)) + body


def encode_conversation(messages: Sequence[Message], tools: Sequence[Tool], think: Think | None) -> msgspec.Raw:
    """What a prompt is made of. Raises UnicodeEncodeError, and RecursionError for JSON that is nested too deeply."""
    wired = [
        (
            message.role,
            message.content,
            message.thinking,
            len(message.images),
            [(call.name, json.dumps(call.arguments), call.id, call.index) for call in message.tool_calls],
            message.tool_name,
            message.tool_call_id,
        )
        for message in messages
    ]
    return msgspec.Raw(_encoder.encode(_Conversation(wired, [json.dumps(definition(tool)) for tool in tools], think)))


def decode_conversation(data: msgspec.Raw) -> tuple[list[Message], list[dict[str, Any]], Think | None]:
    """What was encoded; images are empty, tools are dicts as templates want them."""
    found = _conversation_decoder.decode(data)
    messages = [
        Message(role, content, thinking, (b"",) * images, tuple(map(_call, calls)), tool_name, tool_call_id)
        for role, content, thinking, images, calls, tool_name, tool_call_id in found.messages
    ]
    return messages, [json.loads(tool) for tool in found.tools], found.think


def _call(wired: tuple[str, str, str, int]) -> ToolCall:
    name, arguments, call_id, index = wired
    return ToolCall(name, json.loads(arguments), call_id, index)
