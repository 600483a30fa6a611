"""Builds a Lark grammar for llguidance: literals, named rules, strings that end with a delimiter."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from engine.chat.grammar.json_grammar import ON_ONE_LINE, json_rules
from engine.chat.grammar.json_terminals import can_be_without, quoted, without
from engine.chat.output.format import BLANK, KEY, LINE, NUMBER
from engine.chat.regex.assertions import search
from engine.chat.regex.nodes import Untranslatable, lengths, terminal
from engine.chat.schema.reader import count

log = logging.getLogger("pronk.engine")

_PLACES = {NUMBER: "NUMBER", KEY: "KEY", BLANK: "BLANK?", LINE: "LINE?"}
_SHARED = (r"NUMBER: /[0-9]{1,6}/", 'BLANK: " "', r'LINE: "\n"', r"KEY: /[A-Za-z_][A-Za-z0-9_]{0,63}/")
FINITE = r"/-?(0|[1-9][0-9]{0,20})(\.[0-9]{1,20})?([eE][+-]?[0-9]{1,2})?/"
"""A number that no reader takes for a string because it is infinite."""

_NULL = r"/\n?[nN][uU][lL][lL]\n?/"
_NO_LINES_AROUND = r"/([^\n]((.|\n)*[^\n])?)?/"


def literal(text: str, special_tokens: Sequence[str]) -> str:
    """A text as the items of a rule: its special tokens and placeholders by name, the rest in quotes."""
    longest_first = [*sorted(special_tokens, key=len, reverse=True), *_PLACES]
    words = {mark: f"mark_{number}" for number, mark in enumerate(special_tokens)} | _PLACES
    pieces = re.split(f"({'|'.join(map(re.escape, longest_first))})", text)
    return " ".join(words.get(piece) or quoted(piece) for piece in pieces if piece)


class GrammarBuilder:
    """Collects the rules of one grammar, each once. `closings` are what open-ended strings and lists end with."""

    def __init__(self, special_tokens: Sequence[str]) -> None:
        self._special_tokens = special_tokens
        self._names: dict[str, str] = {}
        self._bodies: dict[str, str] = {}
        self._closings: dict[str, None] = {}
        self.examples: dict[str, None] = {}  # texts that patterns find

    def add_closing(self, text: str) -> None:
        """Note that a string or list of any length ends with this text."""
        bare = re.sub("|".join(map(re.escape, _PLACES)), "", text)
        self._closings |= {bare: None} if bare else {}

    @property
    def rules(self) -> list[str]:
        """All rules, and the terminals of the placeholders."""
        return [*_SHARED, *(f"{name}: {body}" for name, body in self._bodies.items())]

    @property
    def closings(self) -> tuple[str, ...]:
        """What strings and lists end with, each text once."""
        return tuple(self._closings)

    def literal(self, text: str) -> str:
        """A text as the items of a rule."""
        return literal(text, self._special_tokens)

    def add_rule(self, body: str, prefix: str = "rule") -> str:
        """Add a rule with this body and return its name; a terminal if `prefix` is in upper case."""
        return self.add_named_rule(f"{prefix}: {body}", lambda: body, prefix)

    def add_named_rule(self, key: str, body: Callable[[], str], prefix: str = "rule") -> str:
        """Add a rule under a key and return its name; `body` may ask for the same key, which makes it recursive."""
        if key not in self._names:
            self._names[key] = f"{prefix}_{len(self._names)}"
            self._bodies[self._names[key]] = body() or '""'
        return self._names[key]

    def add_json(self, schema: Any, reserved: Sequence[str]) -> str:
        """Add a rule for JSON on one line that matches a schema, without the reserved texts; return its name."""
        key = f"json: {json.dumps(schema)}"
        if key not in self._names:
            self._names[key] = name = f"json_{len(self._names)}"
            rules = json_rules(schema, name, ON_ONE_LINE, reserved)
            self._bodies[name] = rules.text.removeprefix(f"{name}: ")
            self.examples |= dict.fromkeys(rules.examples)
        return self._names[key]

    def add_text(self, end: str, reserved: Sequence[str], schema: Mapping[str, Any], *, nullable: bool) -> str:
        """Add a rule for a bare string up to and including `end`, and return its items.

        The string matches the schema and contains none of the reserved texts. `nullable`: it may be `null` too.
        """
        closing, place, behind = _split(end, tuple(_PLACES))
        self.add_closing(closing)
        before, mark, after = _split(closing, self._special_tokens)
        parts = _limits(schema)
        parts = [*parts, _free_of([*reserved, before + mark], limited=len(parts) > 1)]
        free = " & ".join(parts if nullable else [*parts, f"~{_NULL}"])
        goes_on = self.literal(after + place + behind)
        if not mark:
            return f"{self.add_rule(f'({free}) {quoted(closing)}', 'VALUE')} {goes_on}"
        number = self._special_tokens.index(mark)
        return f"{self.add_rule(f'({free}) {quoted(before)} MARK_{number}', 'VALUE')} tail_{number} {goes_on}"


def is_limited(schema: Mapping[str, Any]) -> bool:
    """Whether a schema limits the strings that it allows."""
    return len(_limits(schema)) > 1


def _limits(schema: Mapping[str, Any]) -> list[str]:
    """The terminals that a whole string must match."""
    least, most = count(schema, "minLength") or 0, count(schema, "maxLength")
    limits = ["TEXT"]
    if least or most is not None:
        limits.append(rf"/(.|\n){{{least},{'' if most is None else most}}}/")
    pattern = schema.get("pattern")
    if isinstance(pattern, str) and (body := _searched(pattern)):
        limits.append(body)
    return [*limits, _NO_LINES_AROUND] if len(limits) > 1 else limits


def _free_of(lost: Sequence[str], *, limited: bool) -> str:
    """A terminal for texts with none of these in them.

    Beside limits, above all beside counted characters, llguidance makes far fewer states of a pattern than of what it
    has to negate.
    """
    shortest = [text for text in lost if not any(other in text for other in lost if other != text)]
    if limited and can_be_without(shortest):
        return f"/{without(shortest)}/"
    return f"~(TEXT ({' | '.join(map(quoted, lost))}) TEXT)"


def _searched(pattern: str) -> str:
    """A terminal for strings in which a pattern is found; "" if it cannot be translated."""
    try:
        node = search(pattern)
        if lengths(node) is None:
            raise Untranslatable("no text matches it")
        return terminal(node, quoted=False)
    except Untranslatable as error:
        log.warning("JSON schema: cannot be enforced, left out: pattern %.80r: %s", pattern, error)
        return ""


def _split(text: str, special_tokens: Sequence[str]) -> tuple[str, str, str]:
    """The text before the first of the special tokens, the token, and the text behind it."""
    places = [(text.find(token), token) for token in special_tokens if token in text]
    if not places:
        return text, "", ""
    at, token = min(places)
    return text[:at], token, text[at + len(token) :]
