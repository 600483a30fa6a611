"""From a JSON schema to the rules of a grammar for JSON texts that match it."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from engine.chat.grammar.json_terminals import (
    ANY_NAME,
    ANY_TEXT,
    MOST_REPEATS,
    JsonTerminals,
    any_of,
    counted_step,
    quoted,
    times,
)
from engine.chat.regex.nodes import Untranslatable
from engine.chat.schema.reader import LARGEST, Parts, SchemaReader, UnusableSchema, ValueSet, to_json

log = logging.getLogger("pronk.engine")

INDENTED = r"[\x20\x0A\x09]{1,20}"  # white space between the parts of JSON; small models would never end it
ON_ONE_LINE = r"\x20"
_MOST_EXAMPLES = 32
_MOST_COUNTED = 64  # properties that may be counted while some of them may be left out


@dataclass(frozen=True, slots=True)
class JsonRules:
    """Rules in Lark. `examples` are short strings, escaped as in JSON, in which patterns of the schema are found.

    `unenforced` are the keywords that are left out.
    """

    text: str
    examples: tuple[str, ...]
    unenforced: tuple[str, ...] = ()


def json_rules(schema: Any, name: str, spaces: str = INDENTED, reserved: Sequence[str] = ()) -> JsonRules:
    """The rule `name` for JSON that matches a schema, and the rules that it needs, whose names begin with `name`.

    `spaces` is a regular expression for whitespace between tokens. No string in the JSON, and no key that the schema
    does not list, contains one of the `reserved` texts, which all begin with the same character.

    An object has only the listed properties, unless the schema mentions others. A keyword that cannot be enforced is
    left out and logged. Raises UnusableSchema.
    """
    try:
        if len(json.dumps(schema, ensure_ascii=False)) > LARGEST:
            raise UnusableSchema(f"it is too large: at most {LARGEST} characters are accepted")
        return _rules(schema, name, spaces, reserved)
    except RecursionError:
        raise UnusableSchema("it is nested too deeply") from None


def _rules(schema: Any, name: str, spaces: str, reserved: Sequence[str]) -> JsonRules:
    reader = SchemaReader(schema if isinstance(schema, Mapping) else {})
    dead: set[tuple[int, ...]] = set()
    while True:
        grammar = _Grammar(reader, name, spaces, reserved, dead)
        grammar.root((schema,))
        endless = grammar.without_end()
        if (id(schema),) in endless:
            raise UnusableSchema("it contradicts itself: no value would do")
        if not endless - dead:
            break
        dead |= endless
    if reader.unenforced:
        log.warning("JSON schema: cannot be enforced, left out: %s", ", ".join(list(reader.unenforced)[:20])[:500])
    return grammar.rules()


class _Grammar:
    """Makes the rules of one schema. `dead` are schemas that no value matches; they get no rules."""

    def __init__(
        self, reader: SchemaReader, name: str, spaces: str, reserved: Sequence[str], dead: set[tuple[int, ...]]
    ) -> None:
        self._reader = reader
        self._name = name
        self._terminals = JsonTerminals(name.upper(), reserved, reader.drop)
        self._dead = dead
        self._rules: dict[str, str] = {}
        self._names: dict[tuple[int, ...], str] = {}
        self._waiting: list[Parts] = []
        self._needs: dict[tuple[int, ...], list[set[tuple[int, ...]]]] = {}
        gap, sign = f"(?:{spaces})?", self._terminals.sign
        self._open_object, self._close_object = sign(rf"\{{{gap}"), sign(rf"{gap}\}}")
        self._open_array, self._close_array = sign(rf"\[{gap}"), sign(rf"{gap}\]")
        self._comma, self._colon = sign(f"{gap},{gap}"), sign(f"{gap}:{gap}")

    def root(self, parts: Parts) -> None:
        """Make the root's rule, for values that match all of `parts`, and all rules that it needs."""
        self._rules[self._name] = ""  # stays first
        self._rules[self._name] = self._value(parts)
        while self._waiting:
            parts = self._waiting.pop()
            self._needs[_key(parts)] = needs = []
            ways: list[str] = []
            for values in self._reader.read(parts):
                for way, needed in self._ways(values):
                    ways.append(way)
                    needs.append(needed)
            self._rule(self._names[_key(parts)], " | ".join(dict.fromkeys(ways)) or '""')

    def rules(self) -> JsonRules:
        """All rules and terminals, the root's rule first."""
        rules = self._rules | self._terminals.definitions()
        text = "\n".join(f"{name}: {body}" for name, body in rules.items())
        return JsonRules(text, tuple(self._terminals.examples)[:_MOST_EXAMPLES], tuple(self._reader.unenforced))

    def without_end(self) -> set[tuple[int, ...]]:
        """The schemas that no finite value matches."""
        ending: set[tuple[int, ...]] = set()
        while True:
            more = {
                key for key, ways in self._needs.items() if key not in ending and any(way <= ending for way in ways)
            }
            if not more:
                return set(self._needs) - ending
            ending |= more

    def _value(self, parts: Parts) -> str:
        """The name of the rule for a value that matches these schemas."""
        if all(part is True or part == {} for part in parts):
            return self._anything()
        key = _key(parts)
        if key not in self._names:
            self._names[key] = f"{self._name}_{len(self._names)}"
            self._waiting.append(parts)
        return self._names[key]

    def _is_dead(self, parts: Parts) -> bool:
        return any(part is False for part in parts) or _key(parts) in self._dead

    def _needed(self, parts: Iterable[Parts]) -> set[tuple[int, ...]]:
        return {_key(group) for group in parts if not all(part is True or part == {} for part in group)}

    def _ways(self, values: ValueSet) -> list[tuple[str, set[tuple[int, ...]]]]:
        """Alternatives for these values, each with the schemas that must match something for it."""
        if values.listed is not None:
            texts = self._terminals.listed(values)
            return [(self._terminals.named(any_of(texts)), set())] if texts else []
        ways: list[tuple[str, set[tuple[int, ...]]]] = []
        for kind in values.likely_kinds():
            match kind:
                case "object":
                    ways += self._object(values)
                case "array":
                    ways += self._array(values)
                case "string":
                    ways += [(name, set()) for name in [self._terminals.string(values)] if name]
                case "number":
                    ways += [(name, set()) for name in [self._number(values)] if name]
                case "boolean":
                    texts = [text for text in ("true", "false") if text not in values.excluded]
                    ways += [(self._terminals.named(any_of(texts)), set())] if texts else []
                case "null":
                    ways += [] if "null" in values.excluded else [('"null"', set())]
        return ways

    # Objects

    def _object(self, values: ValueSet) -> list[tuple[str, set[tuple[int, ...]]]]:
        listed = dict(values.properties)
        for name in values.required:
            listed.setdefault(name, values.others or (True,))
        required = set(values.required)
        if any(self._is_dead(listed[name]) for name in required):
            return []
        listed = {name: parts for name, parts in listed.items() if not self._is_dead(parts)}
        others = self._others(values, listed)
        least, most = self._counts(values, len(listed), len(required), others)
        if most is not None and most < max(least, len(required)):
            return []
        members = self._members(list(listed.items()), required, others, least, most)
        if members is None:
            return []
        way = f"{self._open_object} {members} {self._close_object}"
        return [(way, self._needed(listed[name] for name in required))]

    def _counts(self, values: ValueSet, n: int, n_required: int, others: str) -> tuple[int, int | None]:
        """The least and greatest number of properties to enforce: not those that always hold or are too large."""
        least, most = values.min_properties, values.max_properties
        least = 0 if least <= n_required else least
        most = None if most is not None and not others and n <= most else most
        limit = max(least, most or 0)
        if limit > (_MOST_COUNTED if n > n_required else MOST_REPEATS) or (n and n * limit > MOST_REPEATS):
            self._reader.drop("minProperties" if least else "maxProperties")
            return 0, None
        return least, most

    def _others(self, values: ValueSet, listed: Mapping[str, Parts]) -> str:
        """The items of a property that is not listed; "" if there is none."""
        taken = [json.dumps(name, ensure_ascii=False) for name in {**values.properties, **listed}]
        names = self._names_of(values)
        if names is None:
            return ""
        ways: list[tuple[str, list[str], Parts]] = []
        patterns: list[str] = []
        for pattern, parts in values.by_pattern.items():
            try:
                body = self._terminals.matching(pattern)
            except Untranslatable as error:
                self._reader.drop(f"patternProperties {pattern[:80]!r}: {error}")
                continue
            if body and not self._is_dead(parts):
                ways.append((body, patterns[:], parts))
            patterns += [body] if body else []
        silent = values.others is None and not values.by_pattern
        closed = silent and "object" in values.about and (values.properties or not values.names)
        if silent and values.min_properties > len(listed):
            closed = False
        if values.others is not None and not self._is_dead(values.others):
            ways.append(("", patterns, values.others))
        elif values.others is None and not closed and not ways:
            ways.append(("", patterns, (True,)))
        members = []
        for body, excluded, parts in ways:
            limits = [
                ANY_TEXT if names or body else ANY_NAME,
                *names,
                *([body] if body else []),
                *(f"~({name})" for name in excluded),
            ]
            limits += [f"~({any_of(taken)})"] if taken else []
            members.append(f"{self._terminals.text(limits)} {self._colon} {self._value(parts)}")
        return self._group(members)

    def _names_of(self, values: ValueSet) -> list[str] | None:
        """The terminals that names of properties must match; None if no name can."""
        if values.names is None:
            return []
        ways = [way for way in self._reader.read(values.names) if "string" in way.kinds]
        texts = [self._terminals.string(way) for way in ways if way.listed is None]
        texts += [
            any_of(fitting)
            for way in ways
            if (fitting := [text for text in self._terminals.listed(way) if text.startswith('"')])
        ]
        texts = [text for text in texts if text]
        return [self._group(texts)] if texts else None

    def _members(
        self, listed: list[tuple[str, Parts]], required: set[str], others: str, least: int, most: int | None
    ) -> str | None:
        """The items for the members of an object in order; None if there can be none.

        Built from the last member to the first, with a row of rules: one for each number of members before it, up to
        the largest number that makes a difference.
        """
        limit = max(least, most or 0, 1)
        rows = [self._more(others, n, least, most) for n in range(limit + 1)]
        prefix = f"{self._name}_o{len(self._rules)}"
        for place in reversed(range(len(listed))):
            name, parts = listed[place]
            one = f"{self._literal(name)} {self._colon} {self._value(parts)}"
            row: list[str | None] = []
            for n in range(limit + 1):
                after = None if n == most else rows[min(n + 1, limit)]
                within = None if after is None else f"{self._comma if n else ''} {one} {after}".strip()
                without = None if name in required else rows[n]
                if within is not None and without is not None and after == without:
                    within, without = (
                        f"({self._comma if n else ''} {one})? {after}" if n else within,
                        None if n else without,
                    )
                row.append(self._either(within, without, f"{prefix}_{place}_{n}"))
            rows = row
        return rows[0]

    def _either(self, one: str | None, other: str | None, name: str) -> str | None:
        if one is None and other is None:
            return None
        ways = [way or '""' for way in (one, other) if way is not None]
        return self._rule(name, " | ".join(ways)) if ways != ['""'] else ""

    def _more(self, others: str, n: int, least: int, most: int | None) -> str | None:
        """The items for unlisted properties after `n` members."""
        low, high = max(least - n, 0), None if most is None else most - n
        if not others or high == 0:
            return None if low else ""
        if n:
            return _repeated(f"{self._comma} {others}", low, high)
        more = _repeated(f"{self._comma} {others}", max(low - 1, 0), None if high is None else high - 1)
        return f"{others} {more}" if low else f"({others} {more})?"

    # Arrays

    def _array(self, values: ValueSet) -> list[tuple[str, set[tuple[int, ...]]]]:
        least, most = values.min_items, values.max_items
        if least > MOST_REPEATS:
            self._reader.drop("minItems")
            least = 0
        rest = values.items if values.items is not None else (True,)
        prefix = list(values.prefix)
        for n, parts in enumerate(prefix):
            if self._is_dead(parts):
                prefix, most = prefix[:n], n if most is None else min(n, most)
                break
        if self._is_dead(rest):
            most = len(prefix) if most is None else min(len(prefix), most)
        if most is not None and most < least:
            return []
        if most is not None and most > MOST_REPEATS:
            self._reader.drop("maxItems")
            most = None
        prefix = prefix[:most]
        needed = self._needed([*prefix[:least], *([rest] if least > len(prefix) else [])])
        elements = self._elements(prefix, rest, least, most)
        return [(f"{self._open_array} {elements} {self._close_array}", needed)]

    def _elements(self, prefix: list[Parts], rest: Parts, least: int, most: int | None) -> str:
        n = len(prefix)
        if most == n:
            items = ""
        elif n:
            more = max(least - n, 0), None if most is None else most - n
            items = _repeated(f"{self._comma} {self._value(rest)}", *more)
        else:
            more = max(least - 1, 0), None if most is None else most - 1
            items = f"{self._value(rest)} {_repeated(f'{self._comma} {self._value(rest)}', *more)}"
            return items if least else f"({items})?"
        for place in reversed(range(n)):
            items = f"{self._comma if place else ''} {self._value(prefix[place])} {items}"
            items = items if place < least else f"({items})?"
        return items

    # Shared

    def _anything(self) -> str:
        name = f"{self._name}_any"
        if name not in self._rules:
            self._rule(name, "")
            free = ValueSet()
            member = f"{self._terminals.text([ANY_NAME])} {self._colon} {name}"
            ways = [
                self._terminals.string(free),
                self._terminals.number(free),
                self._terminals.named('"true" | "false" | "null"'),
            ]
            ways.append(f"{self._open_array} ({name} ({self._comma} {name})*)? {self._close_array}")
            ways.append(f"{self._open_object} ({member} ({self._comma} {member})*)? {self._close_object}")
            self._rules[name] = " | ".join(ways)
        return name

    def _literal(self, name: str) -> str:
        return quoted(to_json(name) or "")

    def _group(self, ways: list[str]) -> str:
        return ways[0] if len(ways) == 1 else f"({' | '.join(ways)})" if ways else ""

    def _rule(self, name: str, body: str) -> str:
        self._terminals.grow(body)
        self._rules[name] = body
        return name

    def _number(self, values: ValueSet) -> str:
        """The terminal or rule for a number; "" if there is none."""
        step = counted_step(values)
        if step is None:
            return self._terminals.number(values)
        positive = values.low is not None
        zero = not positive or (values.low is not None and values.low.value == 0 and not values.low.open)
        prefix = f"{self._name}_by{step}{'p' * positive}{'z' * zero}"
        for left in range(step):  # digit by digit: one state for each remainder
            ways = [f'"{digit}" {prefix}_{(left * 10 + digit) % step}' for digit in range(10)]
            self._rule(f"{prefix}_{left}", " | ".join([*ways, *(['""'] if left == 0 else [])]))
        first = " | ".join(f'"{digit}" {prefix}_{digit % step}' for digit in range(1, 10))
        sign = "" if positive else '"-"? '
        return self._rule(prefix, ('"0" | ' if zero else "") + f"{sign}({first})")


def _key(parts: Parts) -> tuple[int, ...]:
    return tuple(sorted({id(part) for part in parts if part is not True and part != {}}))


def _repeated(item: str, least: int, most: int | None) -> str:
    """The items of a rule that repeats `item`; "" for no repetition, because llguidance refuses `{0,0}`."""
    return "" if most == 0 else f"({item}){times(least, most)}"
