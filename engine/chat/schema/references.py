"""Resolves `$ref` and its relatives inside one JSON schema."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property
from typing import Any
from urllib.parse import unquote

_ANCHORS = ("$anchor", "$dynamicAnchor")
_IDS = ("$id", "id")
_MOST_DOCUMENTS = 50  # schemas with an `$id` in which a pointer is tried


class SchemaReferences:
    """Resolves references in one document, which is searched for ids and anchors once."""

    def __init__(self, root: Any) -> None:
        self._root = root
        self._resolved: dict[str, Any] = {}

    def target(self, reference: Any) -> Any:
        """The schema that a JSON pointer, an anchor or an `$id` refers to; None if there is none."""
        if not isinstance(reference, str):
            return None
        if reference not in self._resolved:
            self._resolved[reference] = self._resolve(reference)
        return self._resolved[reference]

    def _resolve(self, reference: str) -> Any:
        base, _, fragment = reference.partition("#")
        for document in self._documents(base):
            target = self._pointed(fragment, document)
            if target is not None:
                return target
        return None

    def _documents(self, base: str) -> Iterator[Any]:
        if not base:
            yield self._root
        base_name = base.rstrip("#")
        for name, schema in self._named[:_MOST_DOCUMENTS] if not base else self._named:
            if not base or f"/{name}".endswith(f"/{base_name}") or f"/{base_name}".endswith(f"/{name}"):
                yield schema

    def _pointed(self, fragment: str, document: Any) -> Any:
        if not fragment.strip("/"):
            return document
        if not fragment.startswith("/"):
            return self._anchors.get(fragment, self._anchors.get(unquote(fragment)))
        steps = fragment[1:].split("/")
        target = _followed(steps, document, unquote)
        return _followed(steps, document, str) if target is None else target

    @cached_property
    def _named(self) -> list[tuple[str, Mapping[str, Any]]]:
        return [
            (name.rstrip("#"), schema)
            for schema in _inside(self._root)
            for key in _IDS
            if isinstance(name := schema.get(key), str)
        ]

    @cached_property
    def _anchors(self) -> dict[str, Mapping[str, Any]]:
        return {
            name: schema
            for schema in _inside(self._root)
            for key in _ANCHORS
            if isinstance(name := schema.get(key), str)
        }


def _followed(steps: Iterable[str], target: Any, decode: Callable[[str], str]) -> Any:
    """The schema that a JSON pointer leads to; None if there is none. `decode` is for the names in it."""
    for step in steps:
        name = decode(step).replace("~1", "/").replace("~0", "~")
        if isinstance(target, Mapping):
            target = target.get(name)
        elif (
            isinstance(target, list) and name.isascii() and name.isdigit() and len(name) < 6 and int(name) < len(target)
        ):
            target = target[int(name)]
        else:
            return None
    return target if isinstance(target, Mapping | bool) else None


def _inside(schema: Any) -> Iterator[Mapping[str, Any]]:
    """All objects in a document, at any depth."""
    waiting = [schema]
    while waiting:
        value = waiting.pop()
        if isinstance(value, Mapping):
            yield value
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value
