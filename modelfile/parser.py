"""Parser for Modelfiles: bytes to text, text to commands.

A command is a keyword, a blank and a value; PARAMETER has a name and MESSAGE a role before the value. A value ends with
its line, unless it begins with a quote: then it ends with the first line that ends in the same quote. There are no
escapes. `modelfile.printer` is the inverse.
"""

from __future__ import annotations

import codecs
import enum
import re
from dataclasses import dataclass

ROLES = ("system", "user", "assistant")

_CONTROLS = dict.fromkeys(code for code in (*range(0x20), 0x7F) if chr(code) not in "\t\r\n")
_BLANKS = re.compile(r"[ \t]*")
_BETWEEN = re.compile(r"(?:\s|#[^\r\n]*)*")
_LINE_BREAK = re.compile(r"\r\n?|\n")
_LINE = re.compile(r"[^\r\n]*")
_WORD = re.compile(r".[A-Za-z]*")
_PARAMETER = re.compile(r"[A-Za-z0-9_]*")
_ROLE = re.compile(r"[A-Za-z]*")

_QUOTES = ('"""', '"')  # the longer quote first

_BAD_COMMAND = (
    'command must be one of "from", "license", "template", "system", "adapter", "draft", "renderer", "parser", '
    '"parameter", "message", or "requires"'
)
_BAD_ROLE = 'message role must be one of "system", "user", or "assistant"'


class ModelfileError(ValueError):
    """A Modelfile cannot be used; the text is for the user."""


class Keyword(enum.StrEnum):
    """The keyword of a command."""

    FROM = "FROM"
    PARAMETER = "PARAMETER"
    TEMPLATE = "TEMPLATE"
    SYSTEM = "SYSTEM"
    ADAPTER = "ADAPTER"
    LICENSE = "LICENSE"
    MESSAGE = "MESSAGE"
    DRAFT = "DRAFT"
    RENDERER = "RENDERER"
    PARSER = "PARSER"
    REQUIRES = "REQUIRES"


_KEYWORDS = {keyword.lower(): keyword for keyword in Keyword}


@dataclass(frozen=True, slots=True)
class Command:
    """One command. `name` is a parameter's name or a message's role, else empty."""

    keyword: Keyword
    value: str
    name: str = ""


def parse(text: str) -> tuple[Command, ...]:
    """Parse a Modelfile. Control characters other than tabs and line breaks are dropped. Raises ModelfileError."""
    scanner = _Scanner(text.translate(_CONTROLS))
    commands = []
    while scanner.skip(_BETWEEN):
        commands.append(scanner.command())
    if not any(command.keyword is Keyword.FROM for command in commands):
        raise ModelfileError("no FROM line")
    return tuple(commands)


class _Scanner:
    """A text and the reading position."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def skip(self, pattern: re.Pattern[str]) -> bool:
        """Skip a match; returns whether any text is left."""
        self._read(pattern)
        return self._at < len(self._text)

    def command(self) -> Command:
        """Read one command, which starts here."""
        keyword = self._keyword()
        if keyword is Keyword.PARAMETER:
            name = self._name(_PARAMETER)
        elif keyword is Keyword.MESSAGE:
            name = self._role()
        else:
            name = ""
        return Command(keyword, self._value(), name)

    def _keyword(self) -> Keyword:
        word = self._read(_WORD).lower()
        if not self._peek():
            raise ModelfileError("unexpected EOF")
        if self._peek() not in " \t" or word not in _KEYWORDS:
            raise self._error(_BAD_COMMAND)
        return _KEYWORDS[word]

    def _name(self, pattern: re.Pattern[str]) -> str:
        self._read(_BLANKS)
        name = self._read(pattern)
        if not self._peek():
            raise ModelfileError("unexpected EOF")
        if self._peek() not in " \t":
            raise ModelfileError(f"unexpected EOF: {name}")
        return name

    def _role(self) -> str:
        role = self._name(_ROLE)
        if role not in ROLES:
            raise self._error(_BAD_ROLE)
        return role

    def _value(self) -> str:
        first, last = self._line()
        quote = next((mark for mark in _QUOTES if self._text.startswith(mark, first, last)), "")
        begin = first + len(quote)
        while not self._text.endswith(quote, begin, last):
            if not self._peek():
                raise ModelfileError("unexpected EOF")
            self._at += 1
            _, last = self._line()
        return self._text[begin : last - len(quote)]

    def _line(self) -> tuple[int, int]:
        """Read the rest of the line. Returns the start and end of its text without surrounding blanks."""
        start = self._at
        line = self._read(_LINE)
        first = start + len(line) - len(line.lstrip())
        return first, first + len(line.strip())

    def _read(self, pattern: re.Pattern[str]) -> str:
        match = pattern.match(self._text, self._at)
        self._at = match.end() if match else self._at
        return match[0] if match else ""

    def _peek(self) -> str:
        """The next character; empty at the end."""
        return self._text[self._at : self._at + 1]

    def _error(self, problem: str) -> ModelfileError:
        """An error with the line of the next character."""
        line = 1 + len(_LINE_BREAK.findall(self._text, 0, self._at + 1))
        return ModelfileError(f"(line {line}): {problem}")


_ENCODINGS = {codecs.BOM_UTF8: "utf-8", codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}


def decode(data: bytes) -> str:
    """Decode a Modelfile: UTF-8, or UTF-16 with a byte order mark. Invalid bytes become U+FFFD."""
    for mark, encoding in _ENCODINGS.items():
        if data.startswith(mark):
            return data[len(mark) :].decode(encoding, errors="replace")
    return data.decode(errors="replace")
