"""Parses a template: text, actions, blocks and definitions. Pipelines are parsed in `pipelines`."""

from __future__ import annotations

from collections.abc import Container, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from modelfile.gotemplate.lexer import Kind, Token, TokenReader
from modelfile.gotemplate.nodes import Action, Body, Branch, Break, Call, Continue, If, Node, Range, Text, With
from modelfile.gotemplate.pipelines import PipelineParser
from modelfile.gotemplate.scope import Scope
from modelfile.gotemplate.strings import unquote
from modelfile.text import SPACES, quote

_NAMES = (Kind.STRING, Kind.RAW_STRING)
_BRANCHES: dict[str, type[Branch]] = {"if": If, "with": With, "range": Range}
_CHAINED = ("if", "with")  # keywords that may follow `else` of the same keyword


class _Stop(NamedTuple):
    """An `{{else}}` or `{{end}}`, which ends a body."""

    keyword: str

    def __str__(self) -> str:
        return f"{{{{{self.keyword}}}}}"


def parse(source: str, functions: Container[str]) -> dict[str, Body]:
    """Parse a source into template bodies by name; the source's own has the empty name.

    `functions` are the known functions. Raises TemplateSyntaxError.
    """
    return _Parser(source, functions).parse()


class _Parser:
    def __init__(self, source: str, functions: Container[str]) -> None:
        self._tokens = TokenReader(source)
        self._pipelines = PipelineParser(self._tokens, functions)
        self._ranges = 0
        self._bodies: dict[str, Body] = {}

    def parse(self) -> dict[str, Body]:
        nodes: list[Node] = []
        while self._tokens.peek().kind is not Kind.END:
            if self._at_definition():
                self._definition()
                continue
            node = self._text_or_action()
            if isinstance(node, _Stop):
                raise self._tokens.error(f"unexpected {node}")
            nodes.append(node)
        self._add("", tuple(nodes))
        return self._bodies

    def _at_definition(self) -> bool:
        """Whether a `define` follows; if so, takes its first tokens."""
        before = self._tokens.taken
        if self._tokens.take().kind is Kind.LEFT and _keyword(self._tokens.take_word()) == "define":
            return True
        self._tokens.back_to(before)
        return False

    def _definition(self) -> None:
        context = "define clause"
        name = self._pipelines.literal(unquote, self._tokens.expect(_NAMES, context))
        self._tokens.expect((Kind.RIGHT,), context)
        with self._apart():
            body, stop = self._body()
        if stop.keyword != "end":
            raise self._tokens.error(f"unexpected {stop} in {context}")
        self._add(name, body)

    @contextmanager
    def _apart(self) -> Iterator[None]:
        """A scope for another template's body: no outer variables, no enclosing range."""
        outer = self._pipelines.variables, self._ranges
        self._pipelines.variables, self._ranges = Scope(None), 0
        yield
        self._pipelines.variables, self._ranges = outer

    def _add(self, name: str, body: Body) -> None:
        """Add a template; of two with one name, one must be blank."""
        if _is_blank(self._bodies.get(name, ())):
            self._bodies[name] = body
        elif not _is_blank(body):
            raise self._tokens.error(f"template: multiple definition of template {quote(name)}")

    def _body(self) -> tuple[Body, _Stop]:
        """All nodes up to the matching `{{else}}` or `{{end}}`."""
        self._pipelines.enter()
        nodes: list[Node] = []
        while self._tokens.peek_word().kind is not Kind.END:
            node = self._text_or_action()
            if isinstance(node, _Stop):
                self._pipelines.depth -= 1
                return tuple(nodes), node
            nodes.append(node)
        raise self._tokens.error("unexpected EOF")

    def _text_or_action(self) -> Node | _Stop:
        token = self._tokens.take_word()
        if token.kind is Kind.TEXT:
            return Text(token.at, token.text)
        if token.kind is not Kind.LEFT:
            raise self._tokens.unexpected(token, "input")
        self._tokens.action = token.at
        node = self._action()
        self._tokens.action = None
        return node

    def _action(self) -> Node | _Stop:
        token = self._tokens.take_word()
        match _keyword(token):
            case "if" | "with" | "range" as keyword:
                return self._branch(keyword)
            case "end":
                self._tokens.expect((Kind.RIGHT,), "end")
                return _Stop("end")
            case "else":
                if _keyword(self._tokens.peek_word()) not in _CHAINED:
                    self._tokens.expect((Kind.RIGHT,), "else")
                return _Stop("else")
            case "break" | "continue" as keyword:
                return self._jump(keyword, token)
            case "template":
                return self._call()
            case "block":
                return self._block()
        self._tokens.back()
        return Action(token.at, self._pipelines.pipeline("command"))

    def _branch(self, keyword: str) -> Branch:
        mark = self._pipelines.variables.mark()
        pipe = self._pipelines.pipeline(keyword)
        self._ranges += keyword == "range"
        body, stop = self._body()
        self._ranges -= keyword == "range"
        otherwise = None if stop.keyword == "end" else self._otherwise(keyword)
        self._pipelines.variables.drop(mark)
        return _BRANCHES[keyword](pipe.at, pipe, body, otherwise)

    def _otherwise(self, keyword: str) -> Body:
        """The body after an `else`; `else if` shares the outer `end`."""
        if keyword in _CHAINED and _keyword(self._tokens.peek()) == keyword:
            self._tokens.take()
            self._pipelines.enter()
            chained = self._branch(keyword)
            self._pipelines.depth -= 1
            return (chained,)
        body, stop = self._body()
        if stop.keyword != "end":
            raise self._tokens.error(f"expected end; found {stop}")
        return body

    def _jump(self, keyword: str, token: Token) -> Node:
        shown = f"{{{{{keyword}}}}}"
        self._tokens.expect((Kind.RIGHT,), shown)
        if not self._ranges:
            raise self._tokens.error(f"{shown} outside {{{{range}}}}")
        return Break(token.at) if keyword == "break" else Continue(token.at)

    def _call(self) -> Call:
        context = "template clause"
        token = self._tokens.expect(_NAMES, context)
        name = self._pipelines.literal(unquote, token)
        if self._tokens.peek_word().kind is Kind.RIGHT:
            self._tokens.take()
            return Call(token.at, name, None)
        return Call(token.at, name, self._pipelines.pipeline(context))

    def _block(self) -> Call:
        context = "block clause"
        token = self._tokens.expect(_NAMES, context)
        name = self._pipelines.literal(unquote, token)
        pipe = self._pipelines.pipeline(context)
        clause = self._tokens.newest
        with self._apart():
            body, stop = self._body()
        if stop.keyword != "end":
            raise self._tokens.error(f"unexpected {stop} in {context}", clause)
        self._add(name, body)
        return Call(token.at, name, pipe)


def _keyword(token: Token) -> str:
    return token.text if token.kind is Kind.KEYWORD else ""


def _is_blank(body: Body) -> bool:
    return all(isinstance(node, Text) and not node.text.strip(SPACES) for node in body)
