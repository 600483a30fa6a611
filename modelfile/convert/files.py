"""The files of a checkpoint by name.

Blobs are named by digest on disk, so nothing here assumes that a name is a path: what is not in the mapping is not
there, whatever an index or a configuration says.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from modelfile.convert.errors import ConvertError
from registry import blob_json

MOST_BYTES = 128 << 20  # of a file that is read whole; the largest tokenizers have 40 MB


class Files:
    """Named files. All methods raise ConvertError; the texts name files as the user does."""

    def __init__(self, paths: Mapping[str, Path]) -> None:
        self._paths = paths

    def __contains__(self, name: str) -> bool:
        return name in self._paths

    def names(self, suffix: str) -> list[str]:
        """Names at the top level that end in `suffix`, in order."""
        return sorted(name for name in self._paths if name.endswith(suffix) and "/" not in name)

    def path(self, name: str) -> Path:
        """Where a file is."""
        if name not in self._paths:
            raise ConvertError(f"open {name}: no such file or directory")
        return self._paths[name]

    def read(self, name: str) -> bytes:
        """All of a file."""
        path = self.path(name)
        try:
            if path.stat().st_size > MOST_BYTES:
                raise ConvertError(f"{name} is too large")
            return path.read_bytes()
        except OSError as error:
            raise ConvertError(f"open {name}: {error.strerror}") from error

    def text(self, name: str) -> str:
        """All of a text in UTF-8."""
        try:
            return self.read(name).decode()
        except UnicodeDecodeError as error:
            raise ConvertError(f"{name} is not UTF-8") from error

    def object(self, name: str) -> dict[str, Any]:
        """A JSON object. Infinity and NaN, which JSON does not have, count as 0."""
        found = self._json(name)
        if not isinstance(found, dict):
            raise ConvertError(f"parse {name}: not an object")
        return found

    def array(self, name: str) -> list[Any]:
        """A JSON array."""
        found = self._json(name)
        if not isinstance(found, list):
            raise ConvertError(f"parse {name}: not an array")
        return found

    def object_if_there(self, name: str) -> dict[str, Any]:
        """A JSON object, empty without the file."""
        return self.object(name) if name in self else {}

    def _json(self, name: str) -> Any:
        data = self.read(name)
        try:
            text = blob_json.without_lone_surrogates(data).decode("utf-8", "replace")
            return json.loads(text, parse_constant=_zero)
        except (ValueError, RecursionError) as error:
            raise ConvertError(f"parse {name}: {error}") from error


def _zero(_constant: str) -> float:
    return 0.0
