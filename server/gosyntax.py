"""Finds what is wrong with a JSON text, in the words of Go's scanner. Used only once a C decoder has refused it."""

from __future__ import annotations

import re

from server.gotext import quote_byte

MAX_DEPTH = 64
TOO_DEEP = "exceeded max depth"
_SPACE = re.compile(rb"[ \t\r\n]*")
_PLAIN = re.compile(rb'[^"\\\x00-\x1f]*')
_DIGITS = re.compile(rb"[0-9]*")
_LITERALS = {0x74: b"true", 0x66: b"false", 0x6E: b"null"}


class _Broken(Exception):
    """The scan ends here; `str()` is the message."""


def find_error(data: bytes) -> str | None:
    """What Go says about the first JSON value in `data`, or None if nothing is wrong with it."""
    try:
        _Scan(data).document()
    except _Broken as broken:
        return str(broken)
    return None


class _Scan:
    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def document(self) -> None:
        """Walk the first value; containers are kept on a list, so that depth costs no stack."""
        open_: list[int] = []
        self.value(open_, may_close=False)
        while open_:
            byte = self.next()
            closer, name = (0x7D, "object key:value pair") if open_[-1] == 0x7B else (0x5D, "array element")
            if byte == closer:
                open_.pop()
            elif byte != 0x2C:
                raise self.wrong(f"after {name}")
            elif closer == 0x7D:
                self.member(open_, may_close=False)
            else:
                self.value(open_, may_close=False)

    def value(self, open_: list[int], *, may_close: bool) -> None:
        """One value; of a container only the start, up to and including its first element."""
        byte = self.next()
        if byte in (0x7B, 0x5B):
            open_.append(byte)
            if len(open_) > MAX_DEPTH:
                raise _Broken(TOO_DEEP)
            if byte == 0x7B:
                self.member(open_, may_close=True)
            else:
                self.value(open_, may_close=True)
        elif byte == 0x5D and may_close:
            open_.pop()
        elif byte == 0x22:
            self.string()
        elif byte in _LITERALS:
            self.literal(_LITERALS[byte])
        elif byte == 0x2D or 0x30 <= byte <= 0x39:
            self.number(byte)
        else:
            raise self.wrong("looking for beginning of value")

    def member(self, open_: list[int], *, may_close: bool) -> None:
        """A key, its colon and its value, or the end of an empty object."""
        byte = self.next()
        if byte == 0x7D and may_close:
            open_.pop()
            return
        if byte != 0x22:
            raise self.wrong("looking for beginning of object key string")
        self.string()
        if self.next() != 0x3A:
            raise self.wrong("after object key")
        self.value(open_, may_close=False)

    def string(self) -> None:
        """The rest of a string, its first quote being read."""
        while True:
            self.skip(_PLAIN)
            byte = self.read()
            if byte == 0x22:
                return
            if byte != 0x5C:
                raise self.wrong("in string literal")
            escape = self.read()
            if escape == 0x75:
                for _ in range(4):
                    if self.read() not in b"0123456789abcdefABCDEF":
                        raise self.wrong(r"in \u hexadecimal character escape")
            elif escape not in b'"\\/bfnrt':
                raise self.wrong("in string escape code")

    def literal(self, word: bytes) -> None:
        """The rest of true, false or null, its first letter being read."""
        for letter in word[1:]:
            if self.read() != letter:
                raise self.wrong(f"in literal {word.decode()} (expecting '{chr(letter)}')")

    def number(self, first: int) -> None:
        """The rest of a number, its first character being read."""
        if first == 0x2D:
            first = self.digit("in numeric literal")
        if first != 0x30:
            self.skip(_DIGITS)
        if self.peek() == 0x2E:
            self.at += 1
            self.digit("after decimal point in numeric literal")
            self.skip(_DIGITS)
        if self.peek() in (0x65, 0x45):
            self.at += 1
            if self.peek() in (0x2B, 0x2D):
                self.at += 1
            self.digit("in exponent of numeric literal")
            self.skip(_DIGITS)

    def digit(self, where: str) -> int:
        byte = self.read()
        if not 0x30 <= byte <= 0x39:
            raise self.wrong(where)
        return byte

    def next(self) -> int:
        """The next byte that is no white space."""
        self.skip(_SPACE)
        return self.read()

    def read(self) -> int:
        if self.at >= len(self.data):
            raise _Broken("unexpected EOF")
        self.at += 1
        return self.data[self.at - 1]

    def peek(self) -> int | None:
        return self.data[self.at] if self.at < len(self.data) else None

    def skip(self, pattern: re.Pattern[bytes]) -> None:
        match = pattern.match(self.data, self.at)
        assert match is not None  # every pattern here also matches nothing
        self.at = match.end()

    def wrong(self, where: str) -> _Broken:
        """The error about the byte read last."""
        return _Broken(f"invalid character {quote_byte(self.data[self.at - 1])} {where}")
