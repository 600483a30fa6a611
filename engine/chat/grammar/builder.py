"""Lines of a grammar in the making: literals, named rules, texts that have an end."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from engine.chat.grammar.json_grammar import ON_ONE_LINE, json_rules
from engine.chat.output.format import BLANK, KEY, LINE, NUMBER
from engine.chat.regex.assertions import search
from engine.chat.regex.nodes import Untranslatable, lengths, terminal
from engine.chat.schema.schema import count

log = logging.getLogger("pronk.engine")

_PLACES = {NUMBER: "NUMBER", KEY: "KEY", BLANK: "BLANK?", LINE: "LINE?"}
_SHARED = (r"NUMBER: /[0-9]{1,6}/", 'BLANK: " "', r'LINE: "\n"', r"KEY: /[A-Za-z_][A-Za-z0-9_]{0,63}/")
FINITE = r"/-?(0|[1-9][0-9]{0,20})(\.[0-9]{1,20})?([eE][+-]?[0-9]{1,2})?/"
"""A number that no reader takes for a text because it is infinite."""

_NULL = r"/\n?[nN][uU][lL][lL]\n?/"
_LINES_AROUND = r"(/\n/ TEXT | TEXT /\n/)"


def literal(text: str, known: Sequence[str]) -> str:
    """A text as a rule's items: its marks, the places of a shape, and what stands between them in quotes."""
    longest_first = [*sorted(known, key=len, reverse=True), *_PLACES]
    words = {mark: f"mark_{number}" for number, mark in enumerate(known)} | _PLACES
    pieces = re.split(f"({'|'.join(map(re.escape, longest_first))})", text)
    return " ".join(words.get(piece) or quoted(piece) for piece in pieces if piece)


class GrammarBuilder:
    """Collects the rules of one grammar, each of them once. `closings` are the ends of what may go on."""

    def __init__(self, known: Sequence[str]) -> None:
        self._known = known
        self._names: dict[str, str] = {}
        self._bodies: dict[str, str] = {}
        self._closings: dict[str, None] = {}
        self.examples: dict[str, None] = {}  # of what patterns find

    def add_closing(self, text: str) -> None:
        """Say that something that may go on ends with this text."""
        bare = re.sub("|".join(map(re.escape, _PLACES)), "", text)
        self._closings |= {bare: None} if bare else {}

    @property
    def rules(self) -> list[str]:
        """All rules, and the terminals that literals need."""
        return [*_SHARED, *(f"{name}: {body}" for name, body in self._bodies.items())]

    @property
    def closings(self) -> tuple[str, ...]:
        """What texts and lists end with."""
        return tuple(self._closings)

    def literal(self, text: str) -> str:
        """A text, as items."""
        return literal(text, self._known)

    def rule(self, body: str, prefix: str = "rule") -> str:
        """The name of a rule with this body; of a terminal if `prefix` is in upper case."""
        return self.named(f"{prefix}: {body}", lambda: body, prefix)

    def named(self, key: str, body: Callable[[], str], prefix: str = "rule") -> str:
        """The name of the rule for what the key says; its body may ask for the same name again."""
        if key not in self._names:
            self._names[key] = f"{prefix}_{len(self._names)}"
            self._bodies[self._names[key]] = body() or '""'
        return self._names[key]

    def json(self, schema: Any, reserved: Sequence[str]) -> str:
        """The name of the rule for a value in JSON, on one line and without the reserved texts."""
        key = f"json: {json.dumps(schema)}"
        if key not in self._names:
            self._names[key] = name = f"json_{len(self._names)}"
            found = json_rules(schema, name, ON_ONE_LINE, reserved)
            self._bodies[name] = found.text.removeprefix(f"{name}: ")
            self.examples |= dict.fromkeys(found.examples)
        return self._names[key]

    def text(self, end: str, reserved: Sequence[str], schema: Mapping[str, Any], *, nullable: bool) -> str:
        """Any text that is as the schema says, and has none of the reserved in it, up to and including its end.

        `nullable`: it may be `null` too.
        """
        closing, place, behind = _split(end, tuple(_PLACES))
        self.add_closing(closing)
        before, mark, after = _split(closing, self._known)
        lost = " | ".join(map(quoted, [*reserved, before + mark]))
        parts = [*_limits(schema), f"~(TEXT ({lost}) TEXT)"]
        free = " & ".join(parts if nullable else [*parts, f"~{_NULL}"])
        goes_on = self.literal(after + place + behind)
        if not mark:
            return f"{self.rule(f'({free}) {quoted(closing)}', 'VALUE')} {goes_on}"
        number = self._known.index(mark)
        return f"{self.rule(f'({free}) {quoted(before)} MARK_{number}', 'VALUE')} tail_{number} {goes_on}"


def is_limited(schema: Mapping[str, Any]) -> bool:
    """Whether a schema says which texts it means."""
    return len(_limits(schema)) > 1


def _limits(schema: Mapping[str, Any]) -> list[str]:
    """What a text must match, all of it, as terminals."""
    least, most = count(schema, "minLength") or 0, count(schema, "maxLength")
    limits = ["TEXT"]
    if least or most is not None:
        limits.append(rf"/(.|\n){{{least},{'' if most is None else most}}}/")
    pattern = schema.get("pattern")
    if isinstance(pattern, str) and (found := _searched(pattern)):
        limits.append(found)
    return [*limits, f"~{_LINES_AROUND}"] if len(limits) > 1 else limits


def _searched(pattern: str) -> str:
    """A terminal for texts in which a pattern is found; "" where none can be made."""
    try:
        found = search(pattern)
        if lengths(found) is None:
            raise Untranslatable("no text matches it")
        return terminal(found, quoted=False)
    except Untranslatable as error:
        log.warning("JSON schema: cannot be enforced, left out: pattern %.80r: %s", pattern, error)
        return ""


def _split(text: str, marks: Sequence[str]) -> tuple[str, str, str]:
    """What stands before the first of the marks, the mark, and what stands behind it."""
    places = [(text.find(mark), mark) for mark in marks if mark in text]
    if not places:
        return text, "", ""
    at, mark = min(places)
    return text[:at], mark, text[at + len(mark) :]


def quoted(text: str) -> str:
    """A text as grammars have it between quotes; it is a mark or a place of a shape to nobody."""
    return json.dumps(text, ensure_ascii=False)
