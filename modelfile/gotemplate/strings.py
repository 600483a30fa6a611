"""Go strings (bytes, usually UTF-8) as Python `str`, and Go's string literals.

A byte that belongs to no character, such as half of one after `slice`, is a surrogate escape.
"""

from __future__ import annotations

import codecs
import re

from modelfile.text import ESCAPES


def to_bytes(text: str) -> bytes:
    """The bytes of a Go string. Other surrogates than escaped bytes become U+FFFD."""
    return text.encode("utf-8", "go-bytes")


def from_bytes(data: bytes) -> str:
    """The Go string of these bytes."""
    return data.decode("utf-8", "surrogateescape")


def byte_length(text: str) -> int:
    """The length in bytes."""
    return len(text) if text.isascii() else len(to_bytes(text))


def joined(parts: list[str]) -> str:
    """Concatenate; halves of a character that meet become the character."""
    text = "".join(parts)
    return text if text.isascii() else from_bytes(to_bytes(text))


def printable(text: str) -> str:
    """The string for output: U+FFFD for every byte that belongs to no character."""
    return text if text.isascii() else to_bytes(text).decode("utf-8", "replace")


def _surrogate_bytes(error: UnicodeError) -> tuple[bytes, int]:
    assert isinstance(error, UnicodeEncodeError)
    code = ord(error.object[error.start])
    return (bytes([code - 0xDC00]) if 0xDC80 <= code <= 0xDCFF else b"\xef\xbf\xbd"), error.start + 1


codecs.register_error("go-bytes", _surrogate_bytes)


_ESCAPE = re.compile(
    r"\\(?:(?P<short>[abfnrtv\\'\"])|(?P<octal>[0-7]{3})|x(?P<byte>[0-9a-fA-F]{2})"
    r"|u(?P<rune>[0-9a-fA-F]{4})|U(?P<long>[0-9a-fA-F]{8}))"
)
_UNREADABLE = re.compile(r"[\x00-\x08\x0a-\x1f`\x7f\ufeff\ud800-\udfff]")


def backquoted(text: str) -> str | None:
    """The text as a raw string literal, or None if that is impossible."""
    return None if _UNREADABLE.search(text) else f"`{text}`"


def codepoint(char: str) -> str:
    """A character for error messages: `U+0078 'x'`."""
    code = 0xFFFD if 0xD800 <= ord(char) <= 0xDFFF else ord(char)
    shown = f" '{chr(code)}'" if chr(code).isprintable() else ""
    return f"U+{code:04X}{shown}"


def unquote(literal: str) -> str:
    """The text of a string literal. Raises ValueError with Go's text."""
    body = literal[1:-1]
    if literal[0] == "`":
        return body.replace("\r", "")
    return from_bytes(to_bytes("".join(_characters(body, '"'))))


def unquote_character(literal: str) -> int:
    """The code point of a character literal. Raises ValueError with Go's text."""
    characters = _characters(literal[1:-1], "'")
    if not characters:
        raise ValueError("invalid syntax")
    if len(characters) > 1:
        raise ValueError(f"malformed character constant: {literal}")
    code = ord(characters[0])
    return code - 0xDC00 if 0xDC80 <= code <= 0xDCFF else code


def _characters(body: str, mark: str) -> list[str]:
    """The characters of a literal's body; bytes above 127 as surrogate escapes."""
    characters: list[str] = []
    at = 0
    while (start := body.find("\\", at)) >= 0:
        escape = _ESCAPE.match(body, start)
        if escape is None:
            raise ValueError("invalid syntax")
        characters.extend(body[at:start])
        characters.append(_unescaped(escape, mark))
        at = escape.end()
    characters.extend(body[at:])
    return characters


def _unescaped(escape: re.Match[str], mark: str) -> str:
    if short := escape["short"]:
        if short in ESCAPES:
            return ESCAPES[short]
        if short == mark:
            return mark
    elif octal := escape["octal"]:
        if (code := int(octal, 8)) < 256:
            return _byte(code)
    elif digits := escape["byte"]:
        return _byte(int(digits, 16))
    elif (code := int(escape["rune"] or escape["long"], 16)) < 0x110000 and not 0xD800 <= code < 0xE000:
        return chr(code)
    raise ValueError("invalid syntax")


def _byte(code: int) -> str:
    return chr(code) if code < 0x80 else chr(0xDC00 + code)
