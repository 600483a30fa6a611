"""Tokenizes a template. Trim markers (`{{- ` and ` -}}`) and comments are resolved here."""

from __future__ import annotations

import re
from collections.abc import Iterator
from enum import Enum, auto
from typing import NamedTuple

from modelfile.gotemplate.errors import TemplateSyntaxError
from modelfile.gotemplate.limits import LONGEST_SOURCE, MOST_TOKENS
from modelfile.gotemplate.strings import byte_length, codepoint
from modelfile.text import quote

_SPACES = " \t\r\n"
_LEFT, _RIGHT = "{{", "}}"
_COMMENT_START, _COMMENT_END = "/*", "*/"
_LEFT_TRIM = re.compile(r"-[ \t\r\n]")
_CLOSING = re.compile(r"(?:[ \t\r\n]-)?\}\}")
_SPACE = re.compile(r"[ \t\r\n]*")
_TERMINATOR = re.compile(r"[ \t\r\n.,|:()]|\}\}|\Z")
_FRACTION = re.compile(r"\.(?:[0-9]|\Z)")
_WORD = re.compile(r"\w*")
_NUMBER = re.compile(
    r"[+-]?(?:0[xX][0-9a-fA-F_]*(?:\.[0-9a-fA-F_]*)?(?:[pP][+-]?[0-9_]*)?"
    r"|0[oO][0-7_]*(?:\.[0-7_]*)?|0[bB][01_]*(?:\.[01_]*)?"
    r"|[0-9_]*(?:\.[0-9_]*)?(?:[eE][+-]?[0-9_]*)?)i?"
)


class Kind(Enum):
    """The kind of a token."""

    TEXT = auto()
    LEFT = auto()
    RIGHT = auto()
    SPACE = auto()
    ASSIGN = auto()
    DECLARE = auto()
    PIPE = auto()
    OPEN = auto()
    CLOSE = auto()
    OTHER = auto()
    STRING = auto()
    RAW_STRING = auto()
    CHARACTER = auto()
    NUMBER = auto()
    COMPLEX = auto()
    BOOL = auto()
    IDENTIFIER = auto()
    FIELD = auto()
    VARIABLE = auto()
    DOT = auto()
    NIL = auto()
    KEYWORD = auto()
    END = auto()
    ERROR = auto()


_WORDS = {
    ".": Kind.DOT,
    "nil": Kind.NIL,
    "true": Kind.BOOL,
    "false": Kind.BOOL,
    **dict.fromkeys(["if", "else", "end", "range", "with", "break", "continue"], Kind.KEYWORD),
    **dict.fromkeys(["define", "template", "block"], Kind.KEYWORD),
}
_SINGLE = {"=": Kind.ASSIGN, "|": Kind.PIPE}
_QUOTED = {
    '"': (Kind.STRING, re.compile(r'"(?:\\[^\n]|[^"\\\n])*"'), "unterminated quoted string"),
    "'": (Kind.CHARACTER, re.compile(r"'(?:\\[^\n]|[^'\\\n])*'"), "unterminated character constant"),
    "`": (Kind.RAW_STRING, re.compile(r"`[^`]*`"), "unterminated raw quoted string"),
}


class Token(NamedTuple):
    """A piece of the source; of an ERROR, `text` is the message."""

    kind: Kind
    at: int
    text: str

    def __str__(self) -> str:
        if self.kind in (Kind.KEYWORD, Kind.DOT, Kind.NIL):
            return f"<{self.text}>"
        if self.kind in (Kind.END, Kind.ERROR):
            return self.text
        return quote(self.text[:10]) + "..." if byte_length(self.text) > 10 else quote(self.text)


class _Unreadable(Exception):
    """Invalid source; carries the ERROR token."""

    def __init__(self, at: int, why: str) -> None:
        super().__init__(why)
        self.token = Token(Kind.ERROR, at, why)


def tokens(source: str) -> Iterator[Token]:
    """Tokenize lazily; the last token is an END or an ERROR."""
    lexer = _Lexer(source)
    try:
        yield from lexer.run()
    except _Unreadable as error:
        yield error.token


class _Lexer:
    def __init__(self, source: str) -> None:
        self._source = source
        self._at = 0
        self._parentheses = 0

    def run(self) -> Iterator[Token]:
        source = self._source
        while (start := source.find(_LEFT, self._at)) >= 0:
            trims = _LEFT_TRIM.match(source, start + len(_LEFT)) is not None
            text = source[self._at : start]
            if text := text.rstrip(_SPACES) if trims else text:
                yield Token(Kind.TEXT, self._at, text)
            inside = start + len(_LEFT) + (2 if trims else 0)
            if source.startswith(_COMMENT_START, inside):
                self._skip_comment(inside)
                continue
            yield Token(Kind.LEFT, start, _LEFT)
            self._at = inside
            self._parentheses = 0
            yield from self._action()
        if self._at < len(source):
            yield Token(Kind.TEXT, self._at, source[self._at :])
        yield Token(Kind.END, len(source), "EOF")

    def _skip_comment(self, start: int) -> None:
        end = self._source.find(_COMMENT_END, start + len(_COMMENT_START))
        if end < 0:
            raise _Unreadable(start, "unclosed comment")
        closing = _CLOSING.match(self._source, end + len(_COMMENT_END))
        if closing is None:
            raise _Unreadable(start, "comment ends before closing delimiter")
        self._leave(closing)

    def _action(self) -> Iterator[Token]:
        while (closing := _CLOSING.match(self._source, self._at)) is None:
            token = self._token()
            self._at = token.at + len(token.text)
            yield token
        if self._parentheses:
            raise _Unreadable(self._at, "unclosed left paren")
        yield Token(Kind.RIGHT, closing.end() - len(_RIGHT), _RIGHT)
        self._leave(closing)

    def _leave(self, closing: re.Match[str]) -> None:
        """Continue after an action; a trim marker drops the following space."""
        trims = len(closing[0]) > len(_RIGHT)
        self._at = self._end_of(_SPACE, closing.end()) if trims else closing.end()

    def _token(self) -> Token:
        char = self._source[self._at : self._at + 1]
        if not char:
            raise _Unreadable(self._at, "unclosed action")
        if char in _SPACES:
            return self._space()
        if char in _QUOTED:
            return self._quoted(*_QUOTED[char])
        if char in _SINGLE:
            return Token(_SINGLE[char], self._at, char)
        if char in "()":
            return self._parenthesis(char)
        if char == "$":
            return self._named(Kind.VARIABLE)
        if char == "." and _FRACTION.match(self._source, self._at) is None:
            return self._named(Kind.FIELD)
        if char in "+-." or "0" <= char <= "9":
            return self._number()
        if _is_word(char):
            return self._word()
        return self._other(char)

    def _space(self) -> Token:
        end = self._end_of(_SPACE, self._at)
        if self._source.startswith("-" + _RIGHT, end):
            end -= 1  # the last space is part of the trim marker
        return Token(Kind.SPACE, self._at, self._source[self._at : end])

    def _quoted(self, kind: Kind, pattern: re.Pattern[str], unterminated: str) -> Token:
        match = pattern.match(self._source, self._at)
        if match is None:
            raise _Unreadable(self._at, unterminated)
        return Token(kind, self._at, match[0])

    def _parenthesis(self, char: str) -> Token:
        self._parentheses += 1 if char == "(" else -1
        if self._parentheses < 0:
            raise _Unreadable(self._at, "unexpected right paren")
        return Token(Kind.OPEN if char == "(" else Kind.CLOSE, self._at, char)

    def _named(self, kind: Kind) -> Token:
        """A field, a variable, or the `.` or `$` that starts one."""
        text = self._terminated(self._at + 1)
        return Token(_WORDS.get(text, kind), self._at, text)

    def _word(self) -> Token:
        word = self._terminated(self._at)
        return Token(_WORDS.get(word, Kind.IDENTIFIER), self._at, word)

    def _terminated(self, start: int) -> str:
        """The source up to the end of the word at `start`, which a terminator must follow."""
        end = self._word_end(start)
        if _TERMINATOR.match(self._source, end) is None:
            raise _Unreadable(self._at, f"bad character {codepoint(self._source[end])}")
        return self._source[self._at : end]

    def _number(self) -> Token:
        end = self._number_end(self._at)
        kind = Kind.NUMBER
        if self._source[end : end + 1] in ("+", "-"):
            kind = Kind.COMPLEX
            end = self._number_end(end)
            if self._source[end - 1] != "i":
                raise self._bad_number(end)
        return Token(kind, self._at, self._source[self._at : end])

    def _number_end(self, start: int) -> int:
        end = self._end_of(_NUMBER, start)
        if self._word_end(end) > end:
            raise self._bad_number(end + 1)
        return end

    def _bad_number(self, end: int) -> _Unreadable:
        return _Unreadable(self._at, f"bad number syntax: {quote(self._source[self._at : end])}")

    def _other(self, char: str) -> Token:
        if char == ":":
            if self._source.startswith(":=", self._at):
                return Token(Kind.DECLARE, self._at, ":=")
            raise _Unreadable(self._at, "expected :=")
        if char.isascii() and char.isprintable():
            return Token(Kind.OTHER, self._at, char)
        raise _Unreadable(self._at, f"unrecognized character in action: {codepoint(char)}")

    def _word_end(self, start: int) -> int:
        """The end of the letters, digits and underscores at `start`."""
        word = _WORD.match(self._source, start)
        assert word is not None  # it may be empty
        if word[0].isascii():
            return word.end()
        return next((start + at for at, char in enumerate(word[0]) if not _is_word(char)), word.end())

    def _end_of(self, pattern: re.Pattern[str], start: int) -> int:
        match = pattern.match(self._source, start)
        assert match is not None  # the patterns given here match the empty text
        return match.end()


def _is_word(char: str) -> bool:
    return char == "_" or char.isalpha() or char.isdecimal()


_END = Token(Kind.END, 0, "EOF")  # after the last token


class TokenReader:
    """Tokens with lookahead and backtracking. Reading raises TemplateSyntaxError if the template is too long."""

    def __init__(self, source: str) -> None:
        self._source = source
        if len(source) > LONGEST_SOURCE:
            raise TemplateSyntaxError(f"template: longer than {LONGEST_SOURCE} characters")
        self._tokens = tokens(source)
        self._read: list[Token] = []
        self._taken = 0
        self.action: int | None = None
        """The start of the current action."""

    @property
    def taken(self) -> int:
        """The number of tokens taken, for `back_to`."""
        return self._taken

    @property
    def newest(self) -> int:
        """The start of the last token read."""
        return self._read[-1].at if self._read else 0

    def back(self) -> None:
        """Put the last token back."""
        self._taken -= 1

    def back_to(self, taken: int) -> None:
        """Put tokens back until `taken` remain taken."""
        self._taken = taken

    def peek(self) -> Token:
        """The next token, without taking it."""
        if self._taken == len(self._read):
            if self._taken == MOST_TOKENS:
                raise self.error(f"more than {MOST_TOKENS} tokens")
            self._read.append(next(self._tokens, _END))
        return self._read[self._taken]

    def take(self) -> Token:
        """The next token."""
        token = self.peek()
        self._taken += 1
        return token

    def peek_word(self) -> Token:
        """The next token that is no space; takes the spaces before it."""
        while self.peek().kind is Kind.SPACE:
            self._taken += 1
        return self.peek()

    def take_word(self) -> Token:
        """Take the next token that is no space."""
        token = self.peek_word()
        self._taken += 1
        return token

    def expect(self, kinds: tuple[Kind, ...], context: str) -> Token:
        """Take the next token that is no space. Raises TemplateSyntaxError unless it is one of `kinds`."""
        token = self.take_word()
        if token.kind not in kinds:
            raise self.unexpected(token, context)
        return token

    def unexpected(self, token: Token, context: str) -> TemplateSyntaxError:
        """The error for an unexpected token; an ERROR token has its own message."""
        if token.kind is Kind.ERROR:
            return self.error(f"{token}{self._started(token)}")
        return self.error(f"unexpected {token} in {context}")

    def error(self, why: str, at: int | None = None) -> TemplateSyntaxError:
        """An error at the last token read, or at a position in the source."""
        line = self._line(self.newest if at is None else at)
        return TemplateSyntaxError(f"template: :{line}: {why}")

    def _started(self, error: Token) -> str:
        """Where the action began, if on another line."""
        if self.action is None or self._line(self.action) == self._line(error.at):
            return ""
        what = " started" if error.text.endswith(" action") else " in action started"
        return f"{what} at :{self._line(self.action)}"

    def _line(self, at: int) -> int:
        return self._source.count("\n", 0, at) + 1
