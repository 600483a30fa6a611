"""What `$ref` points at in a JSON schema."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property
from typing import Any
from urllib.parse import unquote

_ANCHORS = ("$anchor", "$dynamicAnchor")
_IDS = ("$id", "id")


_MOST_DOCUMENTS = 50  # schemas with a name of their own that a path may begin at


class References:
    """Looks up references in one document, which is searched for names once."""

    def __init__(self, root: Any) -> None:
        self._root = root
        self._found: dict[str, Any] = {}

    def target(self, reference: Any) -> Any:
        """The schema that a path in the document, an anchor or a schema's own name points at; None if there is none."""
        if not isinstance(reference, str):
            return None
        if reference not in self._found:
            self._found[reference] = self._look_up(reference)
        return self._found[reference]

    def _look_up(self, reference: str) -> Any:
        base, _, fragment = reference.partition("#")
        for document in self._documents(base):
            found = self._pointed(fragment, document)
            if found is not None:
                return found
        return None

    def _documents(self, base: str) -> Iterator[Any]:
        if not base:
            yield self._root
        wanted = base.rstrip("#")
        for name, schema in self._named[:_MOST_DOCUMENTS] if not base else self._named:
            if not base or f"/{name}".endswith(f"/{wanted}") or f"/{wanted}".endswith(f"/{name}"):
                yield schema

    def _pointed(self, fragment: str, document: Any) -> Any:
        if not fragment.strip("/"):
            return document
        if not fragment.startswith("/"):
            return self._anchors.get(fragment, self._anchors.get(unquote(fragment)))
        steps = fragment[1:].split("/")
        found = _followed(steps, document, unquote)
        return _followed(steps, document, str) if found is None else found

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


def _followed(steps: Iterable[str], found: Any, decode: Callable[[str], str]) -> Any:
    for step in steps:
        name = decode(step).replace("~1", "/").replace("~0", "~")
        if isinstance(found, Mapping):
            found = found.get(name)
        elif isinstance(found, list) and name.isascii() and name.isdigit() and len(name) < 6 and int(name) < len(found):
            found = found[int(name)]
        else:
            return None
    return found if isinstance(found, Mapping | bool) else None


def _inside(schema: Any) -> Iterator[Mapping[str, Any]]:
    """All objects in a document."""
    waiting = [schema]
    while waiting:
        found = waiting.pop()
        if isinstance(found, Mapping):
            yield found
            waiting += found.values()
        elif isinstance(found, list):
            waiting += found
