"""JSON schemas as clients send them: references looked up, parts merged, taken apart into kinds of values."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

from engine.chat.regex.numbers import Bound
from engine.chat.schema.references import References

LARGEST = 256 << 10  # characters of schema in one request
DEEPEST = 100  # schemas inside of each other
_MOST_WAYS = 512  # alternatives of one schema, where choices are combined
_MOST_WORK = 50_000  # schemas that are read for one, again where they are needed again
_LARGEST = Decimal("1e308")  # of bounds; larger ones are none
_SMALLEST_STEP = Decimal("1e-30")

KINDS = ("object", "array", "string", "number", "boolean", "null")
_ABOUT = {
    "object": ("properties", "required", "additionalProperties", "patternProperties", "propertyNames"),
    "array": ("items", "prefixItems", "minItems", "maxItems"),
    "string": ("minLength", "maxLength", "pattern", "format"),
    "number": ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
}
_REFERENCES = ("$ref", "$dynamicRef", "$recursiveRef")
_UNENFORCED = (
    *("if", "then", "else", "dependentRequired", "dependentSchemas", "dependencies", "contains", "minContains"),
    *("maxContains", "unevaluatedItems", "uniqueItems"),
)

Part = Mapping[str, Any] | bool
Parts = tuple[Part, ...]
"""Schemas that a value must match, all of them."""


class UnusableSchema(ValueError):
    """The schema cannot become a grammar; the message is for the user."""


@dataclass(frozen=True, slots=True)
class Values:
    """Values of some kinds. None, and nothing in a mapping, means that nothing is said.

    `inferred`: no type is named. `listed` are the only values that may be, as JSON; `excluded` may not be.
    """

    kinds: frozenset[str] = frozenset(KINDS)
    inferred: bool = True
    about: frozenset[str] = frozenset()
    listed: tuple[str, ...] | None = None
    excluded: frozenset[str] = frozenset()
    whole: bool = False
    low: Bound | None = None
    high: Bound | None = None
    steps: tuple[Decimal, ...] = ()
    min_length: int = 0
    max_length: int | None = None
    patterns: tuple[str, ...] = ()
    formats: tuple[str, ...] = ()
    prefix: tuple[Parts, ...] = ()
    items: Parts | None = None
    min_items: int = 0
    max_items: int | None = None
    properties: Mapping[str, Parts] = field(default_factory=dict)
    by_pattern: Mapping[str, Parts] = field(default_factory=dict)
    others: Parts | None = None
    names: Parts | None = None
    required: tuple[str, ...] = ()
    min_properties: int = 0
    max_properties: int | None = None

    def kinds_meant(self) -> list[str]:
        """The kinds of values, those that the keywords are about where no type is named."""
        if self.inferred and self.listed is None:
            meant = [kind for kind in KINDS if kind in self.about and kind in self.kinds]
            if meant:
                return meant[:1]
        return [kind for kind in KINDS if kind in self.kinds]


def count(schema: Mapping[str, Any], key: str) -> int | None:
    """How many a keyword says; None where it says nothing, or nothing sensible."""
    value = schema.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 0 or value != value // 1:
        return None
    return int(value)


class SchemaReader:
    """Reads the parts of one schema. `unenforced` collects what is said there and cannot be held to."""

    def __init__(self, root: Mapping[str, Any]) -> None:
        self._references = References(root)
        self._left = _MOST_WORK
        self.unenforced: dict[str, None] = {}

    def read(self, parts: Parts) -> list[Values]:
        """The alternatives that all of the schemas leave, none if they contradict each other. Raises UnusableSchema."""
        found = [Values()]
        for part in parts:
            found = self._combined(found, self._ways(part, frozenset(), DEEPEST))
        return found

    def drop(self, keyword: str) -> None:
        """Remember that a keyword is not held to."""
        self.unenforced[keyword] = None

    def _ways(self, schema: Any, within: frozenset[int], depth: int) -> list[Values]:
        if schema is False:
            return []
        if not isinstance(schema, Mapping):
            return [Values()]
        self._left -= 1
        if not depth:
            raise UnusableSchema("it is nested too deeply")
        if self._left < 0:
            raise UnusableSchema("it is too large")
        if id(schema) in within:  # says nothing beyond itself
            return [Values()]
        within = within | {id(schema)}
        found = [values] if (values := self._values(schema)) else []
        for target in self._referred(schema):
            found = self._combined(found, self._ways(target, within, depth - 1))
        for part in _listed(schema, "allOf"):
            found = self._combined(found, self._ways(part, within, depth - 1))
        for key in ("anyOf", "oneOf"):
            if key in schema:
                ways = [way for part in _listed(schema, key) for way in self._ways(part, within, depth - 1)]
                found = self._combined(found, ways)
        if schema.get("nullable") is True:
            found.append(Values(frozenset({"null"}), inferred=False))
        return found

    def _referred(self, schema: Mapping[str, Any]) -> Iterator[Any]:
        for key in _REFERENCES:
            if key in schema:
                target = self._references.target(schema[key])
                if target is None:
                    raise UnusableSchema(f"what it refers to does not exist: {str(schema[key])[:200]}")
                yield target

    def _combined(self, some: list[Values], others: list[Values]) -> list[Values]:
        if len(some) > 1 and len(others) > 1 and len(some) * len(others) > _MOST_WAYS:
            self.drop("a combination of choices")
            return some
        self._left -= len(some) * len(others)
        if self._left < 0:
            raise UnusableSchema("it is too large")
        return [both for one in some for other in others if (both := self._merged(one, other))]

    def _merged(self, one: Values, other: Values) -> Values | None:
        """What both allow; None if that is nothing."""
        plain = Values()
        if one == plain or other == plain:
            return other if one == plain else one
        kinds = one.kinds & other.kinds
        listed = one.listed if other.listed is None else other.listed
        if one.listed is not None and other.listed is not None:
            listed = tuple(value for value in one.listed if value in other.listed)
        if not kinds or listed == ():
            return None
        return Values(
            kinds=kinds,
            inferred=one.inferred and other.inferred,
            about=one.about | other.about,
            listed=listed,
            excluded=one.excluded | other.excluded,
            whole=one.whole or other.whole,
            low=_tighter(one.low, other.low, 1),
            high=_tighter(one.high, other.high, -1),
            steps=_joined(one.steps, other.steps),
            min_length=max(one.min_length, other.min_length),
            max_length=_least(one.max_length, other.max_length),
            patterns=_joined(one.patterns, other.patterns),
            formats=_joined(one.formats, other.formats),
            prefix=_prefixes(one, other),
            items=_all_of(one.items, other.items),
            min_items=max(one.min_items, other.min_items),
            max_items=_least(one.max_items, other.max_items),
            properties=_properties(one, other),
            by_pattern=_by_pattern(one, other),
            others=_all_of(one.others, other.others),
            names=_all_of(one.names, other.names),
            required=_joined(one.required, other.required),
            min_properties=max(one.min_properties, other.min_properties),
            max_properties=_least(one.max_properties, other.max_properties),
        )

    def _values(self, schema: Mapping[str, Any]) -> Values | None:
        """What the keywords of one schema say by themselves; None if no value will do."""
        for key in _UNENFORCED:
            if key in schema and schema[key] not in (False, True, None, {}):
                self.drop(key)
        if schema.get("uniqueItems") is True:
            self.drop("uniqueItems")
        kinds, whole = _kinds(schema)
        found = Values(
            kinds=kinds or frozenset(KINDS),
            inferred=kinds is None,
            about=frozenset(kind for kind, keys in _ABOUT.items() if any(key in schema for key in keys)),
            listed=_written_values(schema),
            whole=whole,
            low=self._bound(schema, "minimum", "exclusiveMinimum"),
            high=self._bound(schema, "maximum", "exclusiveMaximum"),
            steps=self._steps(schema),
            min_length=self._count(schema, "minLength") or 0,
            max_length=self._count(schema, "maxLength"),
            patterns=_texts(schema, "pattern"),
            formats=_texts(schema, "format"),
            min_items=self._count(schema, "minItems") or 0,
            max_items=self._count(schema, "maxItems"),
            min_properties=self._count(schema, "minProperties") or 0,
            max_properties=self._count(schema, "maxProperties"),
            required=tuple(name for name in _list(schema, "required") if isinstance(name, str)),
            properties=_map(schema, "properties"),
            by_pattern=_map(schema, "patternProperties"),
            others=_single(schema, "additionalProperties"),
            names=_single(schema, "propertyNames"),
            **_elements(schema),
        )
        return self._negated(found, schema) if "not" in schema else found

    def _negated(self, found: Values, schema: Mapping[str, Any]) -> Values | None:
        """The same without what `not` takes away, where that is values or types."""
        away = schema["not"]
        if away is True or away == {}:
            return None
        if isinstance(away, Mapping) and not set(away) - {"const", "enum", "type"}:
            kinds, _ = _kinds(away)
            listed = _written_values(away)
            if listed is not None and kinds is None:
                return replace(found, excluded=frozenset(listed))
            if listed is None and kinds is not None and "integer" not in str(away["type"]):
                left = found.kinds - kinds
                return replace(found, kinds=left) if left else None
        if away is not False:
            self.drop("not")
        return found

    def _count(self, schema: Mapping[str, Any], key: str) -> int | None:
        value = count(schema, key)
        if value is None and schema.get(key) is not None:
            self.drop(key)
        return value

    def _bound(self, schema: Mapping[str, Any], closed: str, open_: str) -> Bound | None:
        ends = []
        exclusive = schema.get(open_)
        value = self._decimal(schema, closed)
        if value is not None:
            ends.append(Bound(value, exclusive is True))
        if not isinstance(exclusive, bool) and (value := self._decimal(schema, open_)) is not None:
            ends.append(Bound(value, True))
        sign = 1 if closed == "minimum" else -1
        found = ends[0] if ends else None
        for end in ends[1:]:
            found = _tighter(found, end, sign)
        return found

    def _decimal(self, schema: Mapping[str, Any], key: str) -> Decimal | None:
        value = schema.get(key)
        if value is None or isinstance(value, bool):
            return None
        number = _decimal(value)
        if number is None or abs(number) > _LARGEST:
            if number is None or (number > 0) is (key in ("minimum", "exclusiveMinimum")):
                self.drop(key)
            return None
        return number

    def _steps(self, schema: Mapping[str, Any]) -> tuple[Decimal, ...]:
        if schema.get("multipleOf") is None:
            return ()
        number = _decimal(schema["multipleOf"])
        if number is None or not _SMALLEST_STEP < abs(number) < _LARGEST:
            self.drop("multipleOf")
            return ()
        return (abs(number),)


def _decimal(value: Any) -> Decimal | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    number = Decimal(value) if isinstance(value, int) else Decimal(repr(value))
    return number if number.is_finite() else None


def _kinds(schema: Mapping[str, Any]) -> tuple[frozenset[str] | None, bool]:
    """The kinds of values that `type` names, None if there is no such keyword; and whether numbers must be whole."""
    named = schema.get("type")
    if named is None or named == "" or named == []:
        return None, False
    names = named if isinstance(named, list) else [named]
    for name in names:
        if name not in (*KINDS, "integer"):
            raise UnusableSchema(f"Invalid type: {name if isinstance(name, str) else json.dumps(name)[:100]}")
    return frozenset("number" if name == "integer" else name for name in names), "number" not in names


def _written_values(schema: Mapping[str, Any]) -> tuple[str, ...] | None:
    """The values of `const` and `enum` as JSON; None if there is neither."""
    lists = [[schema["const"]]] if "const" in schema else []
    if "enum" in schema:
        lists.append(_list(schema, "enum"))
    if not lists:
        return None
    first, *rest = ([text for value in values if (text := written(value)) is not None] for values in lists)
    return tuple(dict.fromkeys(text for text in first if all(text in other for other in rest)))


def written(value: Any) -> str | None:
    """A value as JSON, None for numbers that JSON does not have; whole numbers have no point."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        value = int(value)
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False)
        text.encode()
    except UnicodeEncodeError:
        return json.dumps(value)  # halves of a pair of surrogates
    except ValueError:
        return None
    return text


def _list(schema: Mapping[str, Any], key: str) -> list[Any]:
    value = schema.get(key)
    if value is None or isinstance(value, bool):
        return []  # `"required": true` is an old draft's
    if not isinstance(value, list):
        raise UnusableSchema(f"{key} is no list")
    return value


def _listed(schema: Mapping[str, Any], key: str) -> list[Any]:
    return _list(schema, key) if key in schema else []


def _map(schema: Mapping[str, Any], key: str) -> dict[str, Parts]:
    value = schema.get(key)
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise UnusableSchema(f"{key} is no object")
    return {name: (inner,) for name, inner in value.items()}


def _single(schema: Mapping[str, Any], key: str) -> Parts | None:
    value = schema.get(key)
    return (value,) if isinstance(value, Mapping | bool) else None


def _texts(schema: Mapping[str, Any], key: str) -> tuple[str, ...]:
    return (schema[key],) if isinstance(schema.get(key), str) else ()


def _elements(schema: Mapping[str, Any]) -> dict[str, Any]:
    """What the elements of an array are."""
    prefix, items = schema.get("prefixItems"), schema.get("items")
    if isinstance(items, list):
        prefix, items = items, schema.get("additionalItems")
    first = tuple((each,) for each in prefix) if isinstance(prefix, list) else ()
    return {"prefix": first, "items": (items,) if isinstance(items, Mapping | bool) else None}


def _tighter(one: Bound | None, other: Bound | None, sign: int) -> Bound | None:
    """The bound that allows less; `sign` is 1 for lower ones."""
    if one is None or other is None:
        return one or other
    if one.value == other.value:
        return one if one.open else other
    return one if (one.value > other.value) is (sign > 0) else other


def _least(one: int | None, other: int | None) -> int | None:
    return other if one is None else one if other is None else min(one, other)


def _joined(one: tuple[Any, ...], other: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(dict.fromkeys([*one, *other]))


def _all_of(one: Parts | None, other: Parts | None) -> Parts | None:
    if one is None or other is None:
        return other if one is None else one
    return (*one, *(part for part in other if not any(part is each for each in one)))


def _prefixes(one: Values, other: Values) -> tuple[Parts, ...]:
    found = []
    for n in range(max(len(one.prefix), len(other.prefix))):
        mine, theirs = (each.prefix[n] if n < len(each.prefix) else each.items for each in (one, other))
        found.append(_all_of(mine, theirs) or (True,))
    return tuple(found)


def _properties(one: Values, other: Values) -> dict[str, Parts]:
    """The properties of both; what one does not list is what it says of others."""
    found = {}
    for name in dict.fromkeys([*one.properties, *other.properties]):
        mine, theirs = one.properties.get(name, one.others), other.properties.get(name, other.others)
        found[name] = _all_of(mine, theirs) or (True,)
    return found


def _by_pattern(one: Values, other: Values) -> dict[str, Parts]:
    found = {}
    for pattern in dict.fromkeys([*one.by_pattern, *other.by_pattern]):
        mine, theirs = one.by_pattern.get(pattern, one.others), other.by_pattern.get(pattern, other.others)
        found[pattern] = _all_of(mine, theirs) or (True,)
    return found
