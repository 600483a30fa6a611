"""The tokens of one template as the parser reads them, and how it complains about one."""

from __future__ import annotations

from modelfile.gotemplate.errors import TemplateSyntaxError
from modelfile.gotemplate.lexer import Kind, Token, tokens
from modelfile.gotemplate.limits import LONGEST_SOURCE, MOST_TOKENS

_END = Token(Kind.END, 0, "EOF")  # behind the last token


class TokenStream:
    """Tokens that can be looked at before they are taken, and taken back.

    Reading raises TemplateSyntaxError when the template is too long.
    """

    def __init__(self, source: str) -> None:
        self._source = source
        if len(source) > LONGEST_SOURCE:
            raise TemplateSyntaxError(f"template: longer than {LONGEST_SOURCE} characters")
        self._tokens = tokens(source)
        self._read: list[Token] = []
        self._taken = 0
        self.action: int | None = None
        """Where the action begins that is being parsed."""

    @property
    def taken(self) -> int:
        """How many tokens were taken; `back_to` returns there."""
        return self._taken

    @property
    def newest(self) -> int:
        """Where the last token begins that was read."""
        return self._read[-1].at if self._read else 0

    def back(self) -> None:
        """Take the last token back."""
        self._taken -= 1

    def back_to(self, taken: int) -> None:
        """Take several tokens back."""
        self._taken = taken

    def peek(self) -> Token:
        """The next token, which stays."""
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
        """The next token that is no space; spaces before it are taken."""
        while self.peek().kind is Kind.SPACE:
            self._taken += 1
        return self.peek()

    def take_word(self) -> Token:
        """The next token that is no space."""
        token = self.peek_word()
        self._taken += 1
        return token

    def expect(self, kinds: tuple[Kind, ...], context: str) -> Token:
        """The next token that is no space, which has to be one of these."""
        token = self.take_word()
        if token.kind not in kinds:
            raise self.unexpected(token, context)
        return token

    def unexpected(self, token: Token, context: str) -> TemplateSyntaxError:
        """The error to raise about a token; one that the lexer could not read says itself why."""
        if token.kind is Kind.ERROR:
            return self.error(f"{token}{self._started(token)}")
        return self.error(f"unexpected {token} in {context}")

    def error(self, why: str, at: int | None = None) -> TemplateSyntaxError:
        """The error to raise at the last token that was read, or at a place in the source."""
        line = self._line(self.newest if at is None else at)
        return TemplateSyntaxError(f"template: :{line}: {why}")

    def _started(self, error: Token) -> str:
        """Where the action began, if that was on another line."""
        if self.action is None or self._line(self.action) == self._line(error.at):
            return ""
        what = " started" if error.text.endswith(" action") else " in action started"
        return f"{what} at :{self._line(self.action)}"

    def _line(self, at: int) -> int:
        return self._source.count("\n", 0, at) + 1
