"""Bodies of requests."""

from __future__ import annotations

import json
from contextlib import suppress
from random import Random

from engine.chat.jinja.adapt import definition
from server.http.body import decode
from server.ollama.create_schema import CreateBody
from server.ollama.schemas import ChatBody, GenerateBody
from tests.engine.chat.reading import TOOLS
from tests.fuzz.trials import Trial, broken

_CALL = {"id": "c", "function": {"name": "add", "arguments": {"a": 1.5}}}
_MESSAGES = [
    {"role": "user", "content": "Hi", "images": ["QUI="]},
    {"role": "assistant", "content": "", "thinking": "hm", "tool_calls": [_CALL]},
    {"role": "tool", "content": "2", "tool_name": "add"},
]
_GOOD = [
    json.dumps(
        {
            "model": "m",
            "messages": _MESSAGES,
            "tools": list(map(definition, TOOLS)),
            "think": "high",
            "keep_alive": "5m30s",
        }
    ),
    json.dumps({"model": "m", "prompt": "é\n", "options": {"stop": ["a"], "seed": 1}, "format": {"type": "object"}}),
    json.dumps({"model": "m", "from": "n", "files": {"a": "sha256:0"}, "parameters": {"x": [1, 2]}, "stream": False}),
]
_WORDS = (
    *("{", "}", "[", "]", ",", ":", '"', "null", "true", "-1", "1e400", "1.", "0x1", str(1 << 64), "[" * 70, "NaN"),
    *(
        "\\ud800",
        "\\u0000",
        "\\x",
        "\ud800",
        "\x00",
        "\xff",
        '"role":',
        '"images":',
        '"keep_alive":',
        '"-5m"',
        '"1h0.5s"',
    ),
    *('"format":"json"', '"tool_choice":', '"think":', '"arguments":"{}"', '"name":', "\n", " ", "1" * 5000),
)


def bodies(random: Random) -> Trial:
    """Reads each as each kind of request: nothing but ValueError may come of it."""
    data = broken(_GOOD, _WORDS, random).encode("utf-8", "surrogatepass")
    return Trial(data, lambda: _read(data))


def _read(data: bytes) -> None:
    for kind in (GenerateBody, ChatBody):
        with suppress(ValueError):
            decode(data, kind).request()
    with suppress(ValueError):
        decode(data, CreateBody)
