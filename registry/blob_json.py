"""JSON of manifests and blobs, byte for byte as Ollama (Go) writes it: otherwise digests would differ."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

import msgspec

_SPECIAL = re.compile(rb"[<>&]|\xe2\x80[\xa8\xa9]")
_HIGH, _LOW = rb"\\u[dD][89abAB][0-9a-fA-F]{2}", rb"\\u[dD][c-fC-F][0-9a-fA-F]{2}"
_SURROGATES = re.compile(rb"\\\\|" + _HIGH + _LOW + rb"|(" + _HIGH + rb"|" + _LOW + rb")")
_REPLACEMENTS = {
    b"<": b"\\u003c",
    b">": b"\\u003e",
    b"&": b"\\u0026",
    b"\xe2\x80\xa8": b"\\u2028",
    b"\xe2\x80\xa9": b"\\u2029",
}
_PLAIN_FROM, _PLAIN_BELOW = 1e-6, 1e21
_ENCODER = msgspec.json.Encoder()


def without_lone_surrogates(data: bytes) -> bytes:
    """Replace escaped lone surrogates by U+FFFD, as Go's decoder does."""
    return _SURROGATES.sub(lambda match: b"\\ufffd" if match[1] else match[0], data)


def encode(value: Any) -> bytes:
    """Compact JSON of dicts, lists, tuples, strings, finite numbers, booleans and None; dicts keep their order."""
    return _SPECIAL.sub(lambda match: _REPLACEMENTS[match[0]], _ENCODER.encode(_with_go_floats(value)))


def number(value: float) -> str:
    """A finite float in the fewest digits: plain from 1e-6 up to 1e21, else with an exponent without padding."""
    if value == 0 or _PLAIN_FROM <= abs(value) < _PLAIN_BELOW:
        return format(Decimal(repr(value)), "f").removesuffix(".0")
    return re.sub(r"e([+-])0", r"e\1", repr(value))


def _with_go_floats(value: Any) -> Any:
    if isinstance(value, float):
        return msgspec.Raw(number(value).encode())
    if isinstance(value, dict):
        return {key: _with_go_floats(item) for key, item in value.items()}
    return [_with_go_floats(item) for item in value] if isinstance(value, list | tuple) else value
