"""Reads a JSON schema into the sets of values that it allows: references resolved, parts merged, choices expanded."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from math import lcm
from typing import Any

from engine.chat.regex.numbers import Bound
from engine.chat.schema.conditions import Choice, conditions
from engine.chat.schema.references import SchemaReferences

LARGEST = 256 << 10  # characters of schema in one request
DEEPEST = 100  # nested schemas
_MOST_ALTERNATIVES = 512  # of one schema, when its choices are combined
_MOST_WORK = 50_000  # schemas read for one, counted each time
_LARGEST = Decimal("1e308")  # larger bounds are ignored
_SMALLEST_STEP = Decimal("1e-30")

_UNEVALUATED = "unevaluatedProperties"
KINDS = ("object", "array", "string", "number", "boolean", "null")
_ABOUT = {
    "object": ("properties", "required", "additionalProperties", "patternProperties", "propertyNames", _UNEVALUATED),
    "array": ("items", "prefixItems", "minItems", "maxItems", "unevaluatedItems"),
    "string": ("minLength", "maxLength", "pattern", "format"),
    "number": ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
}
_REFERENCES = ("$ref", "$dynamicRef", "$recursiveRef")
_UNENFORCED = (*("contains", "minContains", "maxContains", "uniqueItems"),)

Part = Mapping[str, Any] | bool
Parts = tuple[Part, ...]
"""Schemas that a value must match, all of them at once."""


class UnusableSchema(ValueError):
    """The schema cannot become a grammar. The message is for users."""


@dataclass(frozen=True, slots=True)
class ValueSet:
    """A set of JSON values, described by what keywords say of each kind. None, or an empty mapping, says nothing.

    `inferred`: `type` is missing. `about` are the kinds that some keyword is about. `listed`, as JSON, are the only
    values allowed; `excluded` are not. `whole`: numbers are integers. `steps` are `multipleOf`. `others` is for
    properties neither listed nor matched by a pattern, `names` for the names of all.
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

    def likely_kinds(self) -> list[str]:
        """The kinds of values; without a type, only the first kind that the keywords are about."""
        if self.inferred and self.listed is None:
            about = [kind for kind in KINDS if kind in self.about and kind in self.kinds]
            if about:
                return about[:1]
        return [kind for kind in KINDS if kind in self.kinds]


def count(schema: Mapping[str, Any], key: str) -> int | None:
    """A keyword's number of things; None if it is missing or senseless."""
    value = schema.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 0 or value != value // 1:
        return None
    return int(value)


class SchemaReader:
    """Reads the parts of one schema. `unenforced` collects keywords that the grammar cannot enforce."""

    def __init__(self, root: Mapping[str, Any]) -> None:
        self._references = SchemaReferences(root)
        self._left = _MOST_WORK
        self._choices: dict[int, list[Choice]] = {}  # by the id of a schema: what stands for its conditions
        self.unenforced: dict[str, None] = {}

    def read(self, parts: Parts) -> list[ValueSet]:
        """The alternatives that match all of the schemas, [] if they contradict each other. Raises UnusableSchema."""
        alternatives = [ValueSet()]
        for part in parts:
            alternatives = self._combined(alternatives, self._alternatives(part, frozenset(), DEEPEST))
        return alternatives

    def drop(self, keyword: str) -> None:
        """Record that a keyword is not enforced."""
        self.unenforced[keyword] = None

    def _alternatives(self, schema: Any, within: frozenset[int], depth: int) -> list[ValueSet]:
        """The alternatives of one schema inside of those with ids `within`; `depth` more levels may nest."""
        if schema is False:
            return []
        if not isinstance(schema, Mapping):
            return [ValueSet()]
        self._left -= 1
        if not depth:
            raise UnusableSchema("it is nested too deeply")
        if self._left < 0:
            raise UnusableSchema("it is too large")
        if id(schema) in within:  # a reference to itself adds nothing
            return [ValueSet()]
        within = within | {id(schema)}
        alternatives = [values] if (values := self._values(schema)) else []
        for target in self._referred(schema):
            alternatives = self._combined(alternatives, self._alternatives(target, within, depth - 1))
        for part in _listed(schema, "allOf"):
            alternatives = self._combined(alternatives, self._alternatives(part, within, depth - 1))
        for key in ("anyOf", "oneOf"):
            if key in schema:
                options = [
                    option for part in _listed(schema, key) for option in self._alternatives(part, within, depth - 1)
                ]
                alternatives = self._combined(alternatives, options)
        for choice in self._conditions(schema):
            options = [option for part in choice for option in self._alternatives(part, within, depth - 1)]
            alternatives = self._combined(alternatives, options)
        alternatives = [self._closed(values, schema) for values in alternatives]
        if schema.get("nullable") is True:
            alternatives.append(ValueSet(frozenset({"null"}), inferred=False))
        return alternatives

    def _conditions(self, schema: Mapping[str, Any]) -> list[Choice]:
        """The choices that stand for a schema's conditional keywords; the same objects each time."""
        if id(schema) not in self._choices:
            self._choices[id(schema)], left_out = conditions(schema)
            for key in left_out:
                self.drop(key)
        return self._choices[id(schema)]

    def _closed(self, values: ValueSet, schema: Mapping[str, Any]) -> ValueSet:
        """The values, what nothing else describes as `unevaluatedProperties` and `unevaluatedItems` say."""
        others, items = _single(schema, _UNEVALUATED), _single(schema, "unevaluatedItems")
        if others is not None and values.others is None:
            values = replace(values, others=others)
        if items is not None and values.items is None:
            if "contains" in self.unenforced:  # what it finds counts as described
                self.drop("unevaluatedItems")
            else:
                values = replace(values, items=items)
        return values

    def _referred(self, schema: Mapping[str, Any]) -> Iterator[Any]:
        for key in _REFERENCES:
            if key in schema:
                target = self._references.target(schema[key])
                if target is None:
                    raise UnusableSchema(f"what it refers to does not exist: {str(schema[key])[:200]}")
                yield target

    def _combined(self, some: list[ValueSet], others: list[ValueSet]) -> list[ValueSet]:
        if len(some) > 1 and len(others) > 1 and len(some) * len(others) > _MOST_ALTERNATIVES:
            self.drop("a combination of choices")
            return some
        self._left -= len(some) * len(others)
        if self._left < 0:
            raise UnusableSchema("it is too large")
        return [both for one in some for other in others if (both := self._merged(one, other))]

    def _merged(self, one: ValueSet, other: ValueSet) -> ValueSet | None:
        """What both allow; None if that is nothing."""
        plain = ValueSet()
        if one == plain or other == plain:
            return other if one == plain else one
        kinds = one.kinds & other.kinds
        listed = one.listed if other.listed is None else other.listed
        if one.listed is not None and other.listed is not None:
            listed = tuple(value for value in one.listed if value in other.listed)
        if not kinds or listed == ():
            return None
        return ValueSet(
            kinds=kinds,
            inferred=one.inferred and other.inferred,
            about=one.about | other.about,
            listed=listed,
            excluded=one.excluded | other.excluded,
            whole=one.whole or other.whole,
            low=_tighter(one.low, other.low, 1),
            high=_tighter(one.high, other.high, -1),
            steps=_common(one.steps, other.steps),
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

    def _values(self, schema: Mapping[str, Any]) -> ValueSet | None:
        """What the schema's own keywords say; None if no value matches."""
        for key in _UNENFORCED:
            if key in schema and schema[key] not in (False, True, None, {}):
                self.drop(key)
        if schema.get("uniqueItems") is True:
            self.drop("uniqueItems")
        kinds, whole = named_kinds(schema)
        values = ValueSet(
            kinds=kinds or frozenset(KINDS),
            inferred=kinds is None,
            about=frozenset(kind for kind, keys in _ABOUT.items() if any(key in schema for key in keys)),
            listed=_listed_values(schema),
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
        return self._negated(values, schema) if "not" in schema else values

    def _negated(self, values: ValueSet, schema: Mapping[str, Any]) -> ValueSet | None:
        """The values without those that `not` excludes, as far as that lists values or types."""
        away = schema["not"]
        if away is True or away == {}:
            return None
        if isinstance(away, Mapping) and not set(away) - {"const", "enum", "type"}:
            kinds, _ = named_kinds(away)
            listed = _listed_values(away)
            if listed is not None and kinds is None:
                return replace(values, excluded=frozenset(listed))
            if listed is None and kinds is not None:
                left = values.kinds - kinds  # without integers there are no other numbers either
                return replace(values, kinds=left) if left else None
        if away is not False:
            self.drop("not")
        return values

    def _count(self, schema: Mapping[str, Any], key: str) -> int | None:
        value = count(schema, key)
        if value is None and schema.get(key) is not None:
            self.drop(key)
        return value

    def _bound(self, schema: Mapping[str, Any], closed: str, open_: str) -> Bound | None:
        """The lower or upper bound that two keywords set; an old draft's `exclusiveMinimum: true` opens `minimum`."""
        ends = []
        exclusive = schema.get(open_)
        value = self._decimal(schema, closed)
        if value is not None:
            ends.append(Bound(value, exclusive is True))
        if not isinstance(exclusive, bool) and (value := self._decimal(schema, open_)) is not None:
            ends.append(Bound(value, True))
        sign = 1 if closed == "minimum" else -1
        tightest = ends[0] if ends else None
        for end in ends[1:]:
            tightest = _tighter(tightest, end, sign)
        return tightest

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


def named_kinds(schema: Mapping[str, Any]) -> tuple[frozenset[str] | None, bool]:
    """The kinds that `type` names, None without it; and whether numbers must be integers. Raises UnusableSchema."""
    named = schema.get("type")
    if named is None or named == "" or named == []:
        return None, False
    names = named if isinstance(named, list) else [named]
    for name in names:
        if name not in (*KINDS, "integer"):
            raise UnusableSchema(f"Invalid type: {name if isinstance(name, str) else json.dumps(name)[:100]}")
    return frozenset("number" if name == "integer" else name for name in names), "number" not in names


def _listed_values(schema: Mapping[str, Any]) -> tuple[str, ...] | None:
    """The values of `const` and `enum` as JSON; None if both are missing."""
    lists = [[schema["const"]]] if "const" in schema else []
    if "enum" in schema:
        lists.append(_list(schema, "enum"))
    if not lists:
        return None
    first, *rest = ([text for value in values if (text := to_json(value)) is not None] for values in lists)
    return tuple(dict.fromkeys(text for text in first if all(text in other for other in rest)))


def to_json(value: Any) -> str | None:
    """A value as JSON, integral floats without a point; None for NaN and infinity."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        value = int(value)
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False)
        text.encode()
    except UnicodeEncodeError:
        return json.dumps(value)  # lone surrogates, which must be escaped
    except ValueError:
        return None
    return text


def _list(schema: Mapping[str, Any], key: str) -> list[Any]:
    value = schema.get(key)
    if value is None or isinstance(value, bool):
        return []  # `"required": true` is from an old draft
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
    """The schemas of an array's elements, as fields of ValueSet."""
    prefix, items = schema.get("prefixItems"), schema.get("items")
    if isinstance(items, list):
        prefix, items = items, schema.get("additionalItems")
    first = tuple((item,) for item in prefix) if isinstance(prefix, list) else ()
    return {"prefix": first, "items": (items,) if isinstance(items, Mapping | bool) else None}


def _tighter(one: Bound | None, other: Bound | None, sign: int) -> Bound | None:
    """The bound that allows less; `sign` is 1 for lower bounds, -1 for upper ones."""
    if one is None or other is None:
        return one or other
    if one.value == other.value:
        return one if one.open else other
    return one if (one.value > other.value) is (sign > 0) else other


def _least(one: int | None, other: int | None) -> int | None:
    return other if one is None else one if other is None else min(one, other)


def _joined(one: tuple[Any, ...], other: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(dict.fromkeys([*one, *other]))


def _common(one: tuple[Decimal, ...], other: tuple[Decimal, ...]) -> tuple[Decimal, ...]:
    """The steps of both; whole ones as their least common multiple."""
    steps = _joined(one, other)
    if len(steps) > 1 and all(step == step.to_integral_value() for step in steps):
        return (Decimal(lcm(*map(int, steps))),)
    return steps


def _all_of(one: Parts | None, other: Parts | None) -> Parts | None:
    if one is None or other is None:
        return other if one is None else one
    return (*one, *(part for part in other if not any(part is known for known in one)))


def _prefixes(one: ValueSet, other: ValueSet) -> tuple[Parts, ...]:
    merged = []
    for n in range(max(len(one.prefix), len(other.prefix))):
        mine, theirs = (values.prefix[n] if n < len(values.prefix) else values.items for values in (one, other))
        merged.append(_all_of(mine, theirs) or (True,))
    return tuple(merged)


def _properties(one: ValueSet, other: ValueSet) -> dict[str, Parts]:
    """The properties of both; for one that a side does not list, what that side says of others counts."""
    merged = {}
    for name in dict.fromkeys([*one.properties, *other.properties]):
        mine, theirs = one.properties.get(name, one.others), other.properties.get(name, other.others)
        merged[name] = _all_of(mine, theirs) or (True,)
    return merged


def _by_pattern(one: ValueSet, other: ValueSet) -> dict[str, Parts]:
    merged = {}
    for pattern in dict.fromkeys([*one.by_pattern, *other.by_pattern]):
        mine, theirs = one.by_pattern.get(pattern, one.others), other.by_pattern.get(pattern, other.others)
        merged[pattern] = _all_of(mine, theirs) or (True,)
    return merged
