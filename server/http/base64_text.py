"""Standard base64, decoded in slices so that a large image does not block other threads."""

from __future__ import annotations

import binascii

_SLICE = 256 << 10
_BASE64 = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/")


def decode_base64(text: str) -> bytes:
    """Decode padded base64, ignoring line breaks. Raises ValueError with Go's error text."""
    decoded = []
    group = b""  # an unfinished group of four, which starts at `at`
    at = 0
    for start in range(0, len(text), _SLICE):
        last = start + _SLICE >= len(text)
        bare = group + text[start : start + _SLICE].encode("utf-8", "surrogatepass").translate(None, b"\r\n")
        whole = len(bare) if last else len(bare) & ~3
        try:
            if not last and b"=" in bare[:whole]:
                raise ValueError
            decoded.append(_strict(bare[:whole]))
        except ValueError:
            bad = _first_bad_byte(text[at:].encode("utf-8", "surrogatepass"))
            raise ValueError(f"illegal base64 data at input byte {at + bad}") from None
        group = bare[whole:]
        at = _behind(text, start + _SLICE, len(group))
    return b"".join(decoded)


def _behind(text: str, end: int, count: int) -> int:
    """The position `count` characters before `end`, not counting line breaks."""
    while count:
        end -= 1
        count -= text[end] not in "\r\n"
    return end


def _strict(bare: bytes) -> bytes:
    decoded = binascii.a2b_base64(bare, strict_mode=True)
    if len(bare) != -(-len(decoded) // 3) * 4:  # even strict mode accepts any padding behind whole groups
        raise ValueError
    return decoded


def _first_bad_byte(data: bytes) -> int:
    """Where Go's decoder stops: the first wrong character, or the start of an unfinished group of four."""
    group: list[int] = []
    for at, byte in enumerate(data):
        if byte in b"\r\n":
            continue
        if byte in _BASE64:
            group = [*group, at] if len(group) < 4 else [at]
            continue
        return at if byte != 0x3D else _bad_padding(data, at, len(group) % 4)
    return len(data) - len(group) % 4


def _bad_padding(data: bytes, at: int, filled: int) -> int:
    """Where the padding is wrong. `at` is the first `=`, after `filled` characters of its group."""
    if filled < 2:
        return at
    after = at + 1
    if filled == 2:
        after = _skip_breaks(data, after)
        if after == len(data):
            return after
        if data[after] != 0x3D:
            return after - 1
        after += 1
    return _skip_breaks(data, after)


def _skip_breaks(data: bytes, at: int) -> int:
    while at < len(data) and data[at] in b"\r\n":
        at += 1
    return at
