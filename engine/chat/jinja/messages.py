"""Messages between the server and the processes that render chat templates: typed msgpack, no logic.

A frame is a little-endian u32 length and a msgpack body: one `Render` to a worker, then one `Reply` from it. The fork
server gets an `ORDER`, with a socket if it is to fork, and sends `REPORT`s.
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

LARGEST = 8 << 20  # characters of any text and items of any list that a template makes
CHATML = (
    "{%- for message in messages -%}"
    "{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' -}}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}"
)
"""The template of models that bring none."""

ORDER = struct.Struct("<cI")
"""An order to the fork server: what to do, and the worker's number."""

FORK, FORK_SLOW, KILL = b"f", b"s", b"k"
"""Orders: fork a worker, fork one at a lower priority, kill one."""

REPORT = struct.Struct("<cIi")
"""What the fork server tells: what has happened, a worker's number, and another number."""

READY, STARTED, ENDED = b"r", b"s", b"e"
"""Reports: ready to fork; a worker has this process id; a worker has ended, with its exit code or minus its signal."""


class ChatTemplates(msgspec.Struct, array_like=True, frozen=True):
    """A model's chat templates and special tokens; `with_tools`, if not "", is for requests with tools."""

    usual: str = CHATML
    with_tools: str = ""
    bos: str = ""
    eos: str = ""


class Render(msgspec.Struct, array_like=True, frozen=True):
    """Render within `seconds` of CPU time. `templates` are sent to each worker once; later `key` stands for them.

    `conversation` comes from `encode_conversation`.
    """

    key: bytes
    seconds: float
    conversation: msgspec.Raw
    templates: ChatTemplates | None = None


class RenderedPrompt(msgspec.Struct, array_like=True, frozen=True, tag=1):
    """The prompt, see `Prompt`. `last` (in Refused too): the worker exits after this reply."""

    text: str
    answer_start: Delta | None
    reject_overflow: bool
    last: bool


class Refused(msgspec.Struct, array_like=True, frozen=True, tag=2):
    """There is no prompt.

    `why`: "template": it has a syntax error or raised an exception; "time", "memory": it exceeded its budget;
    "unknown": the worker does not have these templates (any more); "defect": a bug of ours, `text` is a traceback.
    """

    why: Literal["template", "time", "memory", "unknown", "defect"]
    text: str
    last: bool


Reply = RenderedPrompt | Refused


class _Conversation(msgspec.Struct, array_like=True, frozen=True):
    """Messages as tuples, with only the number of their images. Tool schemas and arguments travel as JSON text."""

    messages: list[tuple[str, str, str, int, list[tuple[str, str, str, int]], str, str]]
    tools: list[str]
    think: Think | None


_encoder = msgspec.msgpack.Encoder()
_conversation_decoder = msgspec.msgpack.Decoder(_Conversation)
render_decoder = msgspec.msgpack.Decoder(Render)
reply_decoder: msgspec.msgpack.Decoder[Reply] = msgspec.msgpack.Decoder(Reply)


def encode_frame(message: Render | Reply) -> bytes:
    """The bytes of one frame, header included. Raises UnicodeEncodeError for texts with lone surrogates."""
    body = _encoder.encode(message)
    return FRAME_HEADER.pack(len(body)) + body


def encode_conversation(messages: Sequence[Message], tools: Sequence[Tool], think: Think | None) -> msgspec.Raw:
    """A conversation as msgpack. Raises UnicodeEncodeError, and RecursionError for JSON that is nested too deeply."""
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
    """What `encode_conversation` encoded; images are empty, tools are dictionaries as templates want them."""
    conversation = _conversation_decoder.decode(data)
    messages = [
        Message(role, content, thinking, (b"",) * images, tuple(map(_call, calls)), tool_name, tool_call_id)
        for role, content, thinking, images, calls, tool_name, tool_call_id in conversation.messages
    ]
    return messages, [json.loads(tool) for tool in conversation.tools], conversation.think


def _call(wired: tuple[str, str, str, int]) -> ToolCall:
    name, arguments, call_id, index = wired
    return ToolCall(name, json.loads(arguments), call_id, index)
