"""Encodes JSON answers: compact, without characters that Python's `splitlines` splits at."""

from __future__ import annotations

import re
from typing import Any

import msgspec

# Client libraries that split lines as Python does would cut a JSON line at these.
_LINE_ENDS = re.compile(rb"\xe2\x80[\xa8\xa9]|\xc2\x85")
_ESCAPES = {b"\xe2\x80\xa8": rb"\u2028", b"\xe2\x80\xa9": rb"\u2029", b"\xc2\x85": rb"\u0085"}
_ENCODER = msgspec.json.Encoder()


def encode(value: Any) -> bytes:
    """Compact JSON of dicts, lists, texts, numbers and `msgspec.Raw`. Dicts keep their order."""
    return _escaped(_ENCODER.encode(value))


def encode_text(text: str) -> bytes:
    """One JSON string, quotes included. Lone surrogates become question marks."""
    try:
        data = _ENCODER.encode(text)
    except UnicodeEncodeError:
        data = _ENCODER.encode(text.encode("utf-8", "replace").decode())
    return _escaped(data)


def _escaped(data: bytes) -> bytes:
    return data if data.isascii() else _LINE_ENDS.sub(lambda match: _ESCAPES[match[0]], data)
