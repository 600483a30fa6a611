"""Text from a server, made harmless for a terminal: what names, errors and answers hold must not command it. Pure."""

from __future__ import annotations

import re

# Control characters of ASCII and Latin-1, of which U+009B begins a sequence as ESC [ does.
_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")
# Also line ends of every kind, and characters that turn the direction of what stands around them.
_BEYOND_A_LINE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
_LONGEST = 4000  # characters
_LINE_ENDS = re.compile(r"\s*\r?\n\s*")


def harmless(text: str) -> str:
    """Lines of text, with control characters as in Python's `\\x1b`; carriage returns before line ends are dropped."""
    return _CONTROLS.sub(_escaped, text.replace("\r\n", "\n"))


def one_line(text: str) -> str:
    """As `harmless`, in one line: line ends become blanks."""
    return _BEYOND_A_LINE.sub(_escaped, _LINE_ENDS.sub(" ", text.strip()))


def brief(text: str) -> str:
    """As `one_line`. The middle of a very long text is left out: errors name their cause at the end."""
    return one_line(text if len(text) <= _LONGEST else f"{text[: _LONGEST // 2]} … {text[-_LONGEST // 2 :]}")


def harmless_json(text: str) -> str:
    """JSON that means the same, with what `harmless` would escape as JSON escapes it."""
    return _CONTROLS.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def _escaped(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
