"""Parses the inside of an action: pipelines, commands, operands, literals.

pipeline  = [ variables ( ":=" | "=" ) ] command { "|" command }
command   = operand { space operand }
operand   = term { ".Field" }
term      = literal | function | "." | ".Field" | "$variable" | "(" pipeline ")"
"""

from __future__ import annotations

import re
from collections.abc import Callable, Container
from typing import TypeVar

from modelfile.gotemplate.lexer import Kind, Token, TokenReader
from modelfile.gotemplate.limits import DEEPEST_SOURCE, PARENTHESES
from modelfile.gotemplate.nodes import (
    Bool,
    Chain,
    Command,
    Dot,
    Field,
    Identifier,
    Literal,
    Nil,
    Node,
    Number,
    Pipe,
    String,
    Variable,
)
from modelfile.gotemplate.scope import Scope
from modelfile.gotemplate.strings import unquote, unquote_character
from modelfile.gotemplate.values import COMPLEX128, FLOAT64, INT, Value, boolean, string
from modelfile.text import quote

# Number literals, with Go's rules for untyped constants.

_INTEGER = re.compile(
    r"(?P<sign>[+-]?)(?:0[xX](?P<hex>(?:_?[0-9a-fA-F])+)|0[bB](?P<binary>(?:_?[01])+)"
    r"|0[oO]?(?P<octal>(?:_?[0-7])+)|(?P<decimal>0|[1-9](?:_?[0-9])*))"
)
_BASES = {"hex": 16, "binary": 2, "octal": 8, "decimal": 10}
_DECIMAL = re.compile(
    r"[+-]?(?:[0-9](?:_?[0-9])*\.?(?:[0-9](?:_?[0-9])*)?|\.[0-9](?:_?[0-9])*)(?:[eE][+-]?[0-9](?:_?[0-9])*)?"
)
_HEXADECIMAL = re.compile(
    r"[+-]?0[xX](?:(?:_?[0-9a-fA-F])+\.?(?:[0-9a-fA-F](?:_?[0-9a-fA-F])*)?|\.[0-9a-fA-F](?:_?[0-9a-fA-F])*)"
    r"[pP][+-]?[0-9](?:_?[0-9])*"
)
_LONGEST = 1000  # characters; Python refuses to convert integers of several thousand digits
_INT64 = range(-(2**63), 2**63)
_UINT64 = range(2**64)


def parse_number(text: str) -> Value | None:
    """The constant of a number; None for an integer that fits uint64 only. Raises ValueError with Go's text."""
    if text.endswith("i") and (imaginary := _parse_float(text[:-1])) is not None:
        return Value(COMPLEX128, complex(0, imaginary))
    integer = _parse_integer(text)
    if integer is not None and integer in _INT64:
        # Go takes the `e` of `-0x1e` for an exponent, which makes it a float64 of the same value.
        return Value(FLOAT64, float(integer)) if _looks_real(text) else Value(INT, integer)
    if integer is not None and integer in _UINT64 and text[0] != "+":
        return None
    real = _parse_float(text)
    if real is None:
        raise ValueError(f"illegal number syntax: {quote(text)}")
    if not _looks_real(text):
        raise ValueError(f"integer overflow: {quote(text)}")
    return Value(FLOAT64, real)


def parse_complex(text: str) -> Value:
    """The constant of `1+2i`. Raises ValueError."""
    split = max(text.rfind("+"), text.rfind("-"))
    real, imaginary = _parse_float(text[:split]), _parse_float(text[split:-1])
    if real is None or imaginary is None:
        raise ValueError("syntax error scanning complex number")
    return Value(COMPLEX128, complex(real, imaginary))


def _looks_real(text: str) -> bool:
    """Whether Go makes it a float64, which it decides by characters."""
    if text[:2].lower() == "0x" and len(text) > 2 and "p" not in text.lower():
        return False
    return any(char in text for char in ".eEpP")


def _parse_integer(text: str) -> int | None:
    match = _INTEGER.fullmatch(text[:_LONGEST])
    if match is None or len(text) > _LONGEST:
        return None
    base = match.lastgroup
    assert base is not None  # exactly one of the alternatives matched
    size = int(match[base].replace("_", ""), _BASES[base])
    return -size if match["sign"] == "-" else size


def _parse_float(text: str) -> float | None:
    """The float64 of a literal; None if invalid or too large."""
    if len(text) > _LONGEST:
        return None
    try:
        if _DECIMAL.fullmatch(text):
            number = float(text)
        elif _HEXADECIMAL.fullmatch(text):
            number = float.fromhex(text.replace("_", ""))
        else:
            return None
    except OverflowError:
        return None
    return None if number in (float("inf"), float("-inf")) else number


_NOT_EXECUTABLE = (Literal, Dot, Nil)
T = TypeVar("T")


class PipelineParser:
    """Parses pipelines from a stream. `variables` are those in scope."""

    def __init__(self, stream: TokenReader, functions: Container[str]) -> None:
        self._tokens = stream
        self._functions = functions
        self.variables: Scope[None] = Scope(None)
        self.depth = 0
        """The current nesting of blocks and parentheses."""

    def enter(self, levels: int = 1) -> None:
        """Enter nesting levels; the caller subtracts them from `depth` again. Raises TemplateSyntaxError."""
        self.depth += levels
        if self.depth > DEEPEST_SOURCE:
            raise self._tokens.error("max expression depth exceeded")

    def pipeline(self, context: str, end: Kind = Kind.RIGHT) -> Pipe:
        """Parse a pipeline and the token that ends it."""
        at = self._tokens.peek_word().at
        variables, assigns = self._variables(context)
        commands: list[Command] = []
        while True:
            token = self._tokens.take_word()
            if token.kind is end:
                break
            if token.kind not in _TERMS:
                raise self._tokens.unexpected(token, context)
            self._tokens.back()
            commands.append(self._command())
        if not commands:
            raise self._tokens.error(f"missing value for {context}")
        self._check_stages(commands)
        return Pipe(at, tuple(commands), variables, assigns)

    def _check_stages(self, commands: list[Command]) -> None:
        for stage, command in enumerate(commands[1:], 2):
            if isinstance(command.head, _NOT_EXECUTABLE):
                raise self._tokens.error(f"non executable command in pipeline stage {stage}")

    def _variables(self, context: str) -> tuple[tuple[Variable, ...], bool]:
        """The declared or assigned variables, and whether they are assigned."""
        variables: list[Variable] = []
        while (token := self._tokens.peek_word()).kind is Kind.VARIABLE:
            before = self._tokens.taken
            self._tokens.take()
            mark = self._tokens.peek_word()
            if mark.kind not in (Kind.ASSIGN, Kind.DECLARE) and (mark.kind, mark.text) != (Kind.OTHER, ","):
                self._tokens.back_to(before)
                break
            self._tokens.take()
            variables.append(Variable(token.at, tuple(token.text.split("."))))
            self.variables.declare(token.text, None)
            if mark.text != ",":
                return tuple(variables), mark.kind is Kind.ASSIGN
            self._check_comma(context, len(variables))
        return tuple(variables), False

    def _check_comma(self, context: str, count: int) -> None:
        if context != "range" or count > 1:
            raise self._tokens.error(f"too many declarations in {context}")
        if self._tokens.peek_word().kind not in (Kind.VARIABLE, Kind.RIGHT, Kind.CLOSE):
            raise self._tokens.error("range can only initialize variables")

    def _command(self) -> Command:
        at = self._tokens.peek_word().at
        words: list[Node] = []
        while True:
            self._tokens.peek_word()
            if (operand := self._operand()) is not None:
                words.append(operand)
            token = self._tokens.take()
            if token.kind is Kind.SPACE:
                continue
            if token.kind in (Kind.RIGHT, Kind.CLOSE):
                self._tokens.back()
            elif token.kind is not Kind.PIPE:
                raise self._tokens.unexpected(token, "operand")
            break
        if not words:
            raise self._tokens.error("empty command")
        return Command(at, words[0], tuple(words[1:]))

    def _operand(self) -> Node | None:
        term = self._term()
        first = self._tokens.peek()
        if term is None or first.kind is not Kind.FIELD:
            return term
        path: list[str] = []
        while self._tokens.peek().kind is Kind.FIELD:
            path.append(self._tokens.take().text[1:])
        if isinstance(term, _NOT_EXECUTABLE):
            raise self._tokens.error(f"unexpected . after term {quote(str(term))}")
        if isinstance(term, Field):
            return Field(first.at, (*term.path, *path))
        if isinstance(term, Variable):
            return Variable(first.at, (*term.path, *path))
        return Chain(first.at, term, tuple(path))

    def _term(self) -> Node | None:
        token = self._tokens.take_word()
        if (parse := _TERMS.get(token.kind)) is not None:
            return parse(self, token)
        self._tokens.back()
        return None

    def _dot(self, token: Token) -> Node:
        return Dot(token.at)

    def _nil(self, token: Token) -> Node:
        return Nil(token.at)

    def _identifier(self, token: Token) -> Node:
        if token.text not in self._functions:
            raise self._tokens.error(f"function {quote(token.text)} not defined")
        return Identifier(token.at, token.text)

    def _field(self, token: Token) -> Node:
        return Field(token.at, (token.text[1:],))

    def _variable(self, token: Token) -> Node:
        if self.variables.find(token.text) is None:
            raise self._tokens.error(f"undefined variable {quote(token.text)}")
        return Variable(token.at, (token.text,))

    def _bool(self, token: Token) -> Node:
        return Bool(token.at, token.text, boolean(token.text == "true"))

    def _string(self, token: Token) -> Node:
        return String(token.at, token.text, string(self.literal(unquote, token)))

    def _number(self, token: Token) -> Node:
        return Number(token.at, token.text, self.literal(parse_number, token))

    def _complex(self, token: Token) -> Node:
        return Number(token.at, token.text, self.literal(parse_complex, token))

    def _character(self, token: Token) -> Node:
        return Number(token.at, token.text, Value(INT, self.literal(unquote_character, token)))

    def literal(self, parse: Callable[[str], T], token: Token) -> T:
        """Parse a literal; a ValueError of `parse` becomes a TemplateSyntaxError."""
        try:
            return parse(token.text)
        except ValueError as error:
            raise self._tokens.error(str(error)) from None

    def _parentheses(self, token: Token) -> Node:
        self.enter(PARENTHESES)
        pipe = self.pipeline("parenthesized pipeline", Kind.CLOSE)
        self.depth -= PARENTHESES
        return pipe


_TERMS: dict[Kind, Callable[[PipelineParser, Token], Node]] = {
    Kind.DOT: PipelineParser._dot,
    Kind.NIL: PipelineParser._nil,
    Kind.IDENTIFIER: PipelineParser._identifier,
    Kind.FIELD: PipelineParser._field,
    Kind.VARIABLE: PipelineParser._variable,
    Kind.BOOL: PipelineParser._bool,
    Kind.STRING: PipelineParser._string,
    Kind.RAW_STRING: PipelineParser._string,
    Kind.NUMBER: PipelineParser._number,
    Kind.COMPLEX: PipelineParser._complex,
    Kind.CHARACTER: PipelineParser._character,
    Kind.OPEN: PipelineParser._parentheses,
}
