"""The small layers: template, system prompt, licenses, parameters, messages. Byte-exact, so that digests agree."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Mapping
from typing import Any

from modelfile.conversation import Message, ToolCall
from modelfile.create.request import CreateRequest
from modelfile.create.transaction import ModelPart, Transaction
from registry import blob_json
from registry import manifest as media_types


def replaced_types(request: CreateRequest, parameters: Mapping[str, Any]) -> set[str]:
    """Media types of inherited layers that the request replaces. Parameters are always written anew."""
    types = {media_types.PARAMS} if parameters else set()
    if request.template:
        types |= {media_types.TEMPLATE, media_types.PROMPT}
    if request.system:
        types.add(media_types.SYSTEM)
    if request.messages:
        types.add(media_types.MESSAGES)
    return types


def text_parts(transaction: Transaction, request: CreateRequest, parameters: Mapping[str, Any]) -> list[ModelPart]:
    """Store the layers that the request adds, in order. Blocking. `parameters` includes inherited ones."""
    texts = [(media_types.TEMPLATE, request.template), (media_types.SYSTEM, request.system)]
    blobs = [(kind, text.encode()) for kind, text in texts if text]
    blobs += [(media_types.LICENSE, text.encode()) for text in request.licenses]
    if parameters:
        blobs.append((media_types.PARAMS, encode_parameters(parameters)))
    if request.messages:
        blobs.append((media_types.MESSAGES, encode_messages(request.messages)))
    return [transaction.add(kind, data) for kind, data in blobs]


def encode_parameters(parameters: Mapping[str, Any]) -> bytes:
    """The bytes of a parameters layer: sorted keys, every number a float64."""
    return blob_json.encode(_sorted(_as_float64(parameters))) + b"\n"


def encode_messages(messages: Iterable[Message]) -> bytes:
    """The bytes of a messages layer."""
    return blob_json.encode([_message(message) for message in messages]) + b"\n"


def _message(message: Message) -> dict[str, Any]:
    optional = {
        "thinking": message.thinking,
        "images": [b64encode(image).decode() for image in message.images],
        "tool_calls": [_call(call) for call in message.tool_calls],
        "tool_name": message.tool_name,
        "tool_call_id": message.tool_call_id,
    }
    return {"role": message.role, "content": message.content} | {key: value for key, value in optional.items() if value}


def _call(call: ToolCall) -> dict[str, Any]:
    # Arguments stay in the order in which they came; what lies inside of them does not.
    arguments = {name: _sorted(value) for name, value in _as_float64(call.arguments).items()}
    identity = {"id": call.id} if call.id else {}
    return identity | {"function": {"index": call.index, "name": call.name, "arguments": arguments}}


def _as_float64(value: Any) -> Any:
    if isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, Mapping):
        return {key: _as_float64(item) for key, item in value.items()}
    return [_as_float64(item) for item in value] if isinstance(value, list | tuple) else value


def _sorted(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _sorted(value[key]) for key in sorted(value)}
    return [_sorted(item) for item in value] if isinstance(value, list) else value
