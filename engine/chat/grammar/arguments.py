"""Grammar rules for the arguments of one function, in formats where they are not one JSON object."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any

from engine.chat.grammar.builder import FINITE, GrammarBuilder, is_limited
from engine.chat.grammar.json_terminals import quoted
from engine.chat.output.format import KEY, KIND, NAME, ArgumentSpec, Values
from engine.chat.output.values import typed
from engine.chat.schema.reader import UnusableSchema, count
from engine.chat.schema.variants import DEFINITIONS, SchemaVariant, variants

_TEXT, _ANYTHING = "string", ""
_OPEN = ("additionalProperties", "patternProperties", "unevaluatedProperties")
_NUMERIC = frozenset({"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"})
_BOOLEANS = ("true", "false", "True", "False")

Member = Callable[[str, Any], str]
"""Makes the items of a rule for a member of an object from its name and schema."""


class Arguments:
    """Adds to `builder` the rules for the arguments of one function, which match `schema`, an object.

    Raises UnusableSchema.
    """

    def __init__(
        self, builder: GrammarBuilder, spec: ArgumentSpec, reserved: Sequence[str], schema: Mapping[str, Any]
    ) -> None:
        self._builder = builder
        self._spec = spec
        self._reserved = reserved
        self._root = schema

    @cached_property
    def _root_digest(self) -> str:
        """What `$ref` in a schema of an argument depends on."""
        return hashlib.sha256(json.dumps(self._root, sort_keys=True).encode()).hexdigest()

    def items(self) -> str:
        """All arguments, as the items of a rule."""
        members: Mapping[Values, Member] = {
            Values.JSON: self._json_member,
            Values.BARE: self._bare_member,
            Values.QUOTED: self._quoted_member,
        }
        return self._members(self._root, members[self._spec.values])

    def _members(self, schema: Mapping[str, Any], member: Member) -> str:
        """The members of an object in order; those that are not required may be left out."""
        properties = _properties(schema)
        names = sorted(properties) if self._spec.values is Values.QUOTED else [*properties]
        required = _required(schema)
        separator = self._builder.literal(self._spec.separator)
        first = behind = ""
        if not names and (others := self._others(schema)) is not False and NAME not in self._spec.closing:
            one = member(KEY, others)
            behind = f"({separator} {one})*"
            first = f"({one} {behind})?"
        for name in reversed(names):
            one, after = self._named_member(name, properties[name], member), self._builder.add_rule(behind)
            if name in required:
                first, behind = f"{one} {after}", f"{separator} {one} {after}"
            else:
                first, behind = f"{one} {after} | {self._builder.add_rule(first)}", f"({separator} {one})? {after}"
        return self._builder.add_rule(first)

    def _others(self, schema: Mapping[str, Any]) -> Any:
        """The schema of members that the object's schema does not list; False if there are none."""
        return schema.get("additionalProperties", True) if any(schema.get(key) for key in _OPEN) else False

    def _named_member(self, name: str, schema: Any, member: Member) -> str:
        if not re.fullmatch(self._spec.names, name):
            raise UnusableSchema(f"this model cannot write the name {name}")
        return member(name, schema)

    def _json_member(self, name: str, schema: Any) -> str:
        opening, closing = self._spec.affixes(name)
        return f"{self._builder.literal(opening)} {self._json(schema)} {self._builder.literal(closing)}"

    def _bare_member(self, name: str, schema: Any) -> str:
        opening, closing = self._spec.affixes(name)
        alternatives = variants(schema, self._root)
        kinds = frozenset(variant.kind for variant in alternatives)
        ways: dict[str, list[SchemaVariant]] = {}
        for variant in alternatives:
            ways.setdefault(opening.replace(KIND, self._spec.kind(variant.kind or _TEXT)), []).append(variant)
        values = {prefix: self._bare_values(group, kinds, closing) for prefix, group in ways.items()}
        if not any(values.values()):
            raise UnusableSchema(f"this model cannot write any value of {name}")
        return _either(f"{self._builder.literal(prefix)} {_either(items)}" for prefix, items in values.items() if items)

    def _bare_values(self, group: Sequence[SchemaVariant], kinds: frozenset[str], closing: str) -> list[str]:
        """Values that are written alike up to here. If one may be any string, that covers the others."""
        free = [variant for variant in group if variant.kind in (_TEXT, _ANYTHING) and not variant.values]
        group = next(([variant] for variant in free if not is_limited(variant.schema)), group)
        return [items for variant in group for items in self._bare(variant, kinds, closing)]

    def _bare(self, variant: SchemaVariant, kinds: frozenset[str], closing: str) -> list[str]:
        """The values of one schema variant with what ends them; `kinds` are all types that the reader expects."""
        if variant.values:
            texts = {_bare_text(value): value for value in variant.values}
            return [
                self._builder.literal(text + closing)
                for text, value in texts.items()
                if typed(text, kinds - {_ANYTHING}) == value and not any(mark in text for mark in self._reserved)
            ]
        match variant.kind:
            case "string" | "":
                nullable = not kinds.isdisjoint(("null", _ANYTHING))
                return [self._builder.add_text(closing, self._reserved, variant.schema, nullable=nullable)]
            case "number" if _NUMERIC.isdisjoint(variant.schema):
                return [f"{self._builder.add_rule(FINITE, 'FINITE')} {self._builder.literal(closing)}"]
            case "boolean":
                return [self._builder.literal(word + closing) for word in _BOOLEANS]
        return [f"{self._json(variant.schema)} {self._builder.literal(closing)}"]

    def _quoted_member(self, name: str, schema: Any) -> str:
        opening, closing = self._spec.affixes(name)
        return f"{self._builder.literal(opening)} {self._quoted(schema)} {self._builder.literal(closing)}"

    def _quoted(self, schema: Any) -> str:
        """The rule for a value that matches the schema, in the format's own quotes."""
        key = f"value: {json.dumps(schema, sort_keys=True)} for arguments {self._root_digest}"
        alternatives = variants(schema, self._root)
        return self._builder.add_named_rule(key, lambda: _either(map(self._quoted_variant, alternatives)))

    def _quoted_variant(self, variant: SchemaVariant) -> str:
        if variant.values:
            return _either(map(self._quoted_value, variant.values))
        match variant.kind:
            case "string":
                quote = self._spec.quote
                text = self._builder.add_text(quote, self._reserved, variant.schema, nullable=True)
                return f"{self._builder.literal(quote)} {text}"
            case "array":
                return f'"[" {self._elements(variant.schema)} "]"'
            case "object":
                return f'"{{" {self._members(_opened(variant.schema), self._quoted_member)} "}}"'
            case "":
                return _either(self._quoted({"type": kind}) for kind in _KINDS)
        return self._json(variant.schema)

    def _elements(self, schema: Mapping[str, Any]) -> str:
        """The elements of an array with separators."""
        separator = self._builder.literal(self._spec.separator)
        if isinstance(schema.get("prefixItems"), list):
            return f" {separator} ".join(map(self._quoted, schema["prefixItems"]))
        one = self._quoted(schema.get("items", {}))
        least, most = count(schema, "minItems") or 0, count(schema, "maxItems")
        if most is not None and most < 2:
            return {0: ""}.get(most, one if least else f"{one}?")
        more = f"({separator} {one}){{{max(least - 1, 0)},{'' if most is None else most - 1}}}"
        return f"{one} {more}" if least else f"({one} {more})?"

    def _quoted_value(self, value: Any) -> str:
        """One listed value."""
        match value:
            case str():
                return self._builder.literal(f"{self._spec.quote}{value}{self._spec.quote}")
            case list():
                return f'"[" {self._joined(map(self._quoted_value, value))} "]"'
            case dict():
                pairs = (f"{quoted(f'{name}:')} {self._quoted_value(value[name])}" for name in sorted(value))
                return f'"{{" {self._joined(pairs)} "}}"'
        return quoted(json.dumps(value))

    def _joined(self, items: Iterable[str]) -> str:
        return f" {self._builder.literal(self._spec.separator)} ".join(items)

    def _json(self, schema: Any) -> str:
        """The rule for a value written as JSON."""
        if not isinstance(schema, Mapping):
            schema = {}
        definitions = {key: self._root[key] for key in DEFINITIONS if key in self._root}
        if '"$ref"' in json.dumps(schema):
            schema = {**schema, **definitions}
        return self._builder.add_json(schema, self._reserved)


_KINDS = ("string", "number", "boolean", "null", "array", "object")


def _opened(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """An object's schema; one that lists no properties then allows any."""
    return schema if "properties" in schema else {"additionalProperties": True, **schema}


def _properties(schema: Mapping[str, Any]) -> dict[str, Any]:
    listed = schema.get("properties")
    named = dict(listed) if isinstance(listed, Mapping) else {}
    return named | {name: {} for name in _required(schema) if name not in named}


def _required(schema: Mapping[str, Any]) -> list[str]:
    names = schema.get("required")
    return [name for name in names if isinstance(name, str)] if isinstance(names, list) else []


def _bare_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _either(items: Iterable[str]) -> str:
    return f"({' | '.join(items)})"
