"""Go's quoted texts: `%q` and `%#U` write them, string and character literals are read."""

from __future__ import annotations

import re

from modelfile.gotemplate.strings import from_bytes, to_bytes

_SHORT = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "\\": "\\"}
_LONG = {char: f"\\{letter}" for letter, char in _SHORT.items()}
_ESCAPE = re.compile(
    r"\\(?:(?P<short>[abfnrtv\\'\"])|(?P<octal>[0-7]{3})|x(?P<byte>[0-9a-fA-F]{2})"
    r"|u(?P<rune>[0-9a-fA-F]{4})|U(?P<long>[0-9a-fA-F]{8}))"
)
_UNREADABLE = re.compile(r"[\x00-\x08\x0a-\x1f`\x7f\ufeff\ud800-\udfff]")


def quote(text: str, mark: str = '"', *, ascii_only: bool = False) -> str:
    """The text as Go source: printable characters as they are (of ASCII only, if asked for)."""
    return mark + "".join(_escaped(char, mark, ascii_only) for char in text) + mark


def _escaped(char: str, mark: str, ascii_only: bool) -> str:
    if char == mark:
        return "\\" + mark
    if char in _LONG:
        return _LONG[char]
    if char.isprintable() and (char.isascii() or not ascii_only):
        return char
    code = ord(char)
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    if code < 0x20 or code == 0x7F:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def backquoted(text: str) -> str | None:
    """The text as a raw string, or None if it cannot be one."""
    return None if _UNREADABLE.search(text) else f"`{text}`"


def codepoint(char: str) -> str:
    """A character for an error message: `U+0078 'x'`."""
    code = 0xFFFD if 0xD800 <= ord(char) <= 0xDFFF else ord(char)
    shown = f" '{chr(code)}'" if chr(code).isprintable() else ""
    return f"U+{code:04X}{shown}"


def unquote(literal: str) -> str:
    """The text of a string literal. Raises ValueError with Go's words."""
    body = literal[1:-1]
    if literal[0] == "`":
        return body.replace("\r", "")
    return from_bytes(to_bytes("".join(_characters(body, '"'))))


def unquote_character(literal: str) -> int:
    """The code point of a character literal. Raises ValueError with Go's words."""
    characters = _characters(literal[1:-1], "'")
    if not characters:
        raise ValueError("invalid syntax")
    if len(characters) > 1:
        raise ValueError(f"malformed character constant: {literal}")
    code = ord(characters[0])
    return code - 0xDC00 if 0xDC80 <= code <= 0xDCFF else code


def _characters(body: str, mark: str) -> list[str]:
    """The characters that the body of a literal stands for, bytes above 127 as surrogate escapes."""
    found: list[str] = []
    at = 0
    while (start := body.find("\\", at)) >= 0:
        escape = _ESCAPE.match(body, start)
        if escape is None:
            raise ValueError("invalid syntax")
        found.extend(body[at:start])
        found.append(_unescaped(escape, mark))
        at = escape.end()
    found.extend(body[at:])
    return found


def _unescaped(escape: re.Match[str], mark: str) -> str:
    if short := escape["short"]:
        if short in _SHORT:
            return _SHORT[short]
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
