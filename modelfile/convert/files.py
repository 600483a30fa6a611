"""Access to the files of a checkpoint by name.

On disk they are blobs named by digest. Only names in the mapping exist, whatever an index or a setting says.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from modelfile.convert.errors import ConvertError
from registry import blob_json

MOST_BYTES = 128 << 20  # of a file that is read whole; the largest tokenizers take 40 MB


class Files:
    """Named files. Methods raise ConvertError, which names files by their names, not paths."""

    def __init__(self, paths: Mapping[str, Path]) -> None:
        self._paths = paths

    def __contains__(self, name: str) -> bool:
        return name in self._paths

    def names(self, suffix: str) -> list[str]:
        """Top-level names with this suffix, sorted."""
        return sorted(name for name in self._paths if name.endswith(suffix) and "/" not in name)

    def path(self, name: str) -> Path:
        """The path of a file."""
        if name not in self._paths:
            raise ConvertError(f"open {name}: no such file or directory")
        return self._paths[name]

    def read(self, name: str) -> bytes:
        """The bytes of a file."""
        path = self.path(name)
        try:
            if path.stat().st_size > MOST_BYTES:
                raise ConvertError(f"{name} is too large")
            return path.read_bytes()
        except OSError as error:
            raise ConvertError(f"open {name}: {error.strerror}") from error

    def text(self, name: str) -> str:
        """The text of a UTF-8 file."""
        try:
            return self.read(name).decode()
        except UnicodeDecodeError as error:
            raise ConvertError(f"{name} is not UTF-8") from error

    def object(self, name: str) -> dict[str, Any]:
        """Parse a JSON object. The non-standard Infinity and NaN become 0."""
        value = self._json(name)
        if not isinstance(value, dict):
            raise ConvertError(f"parse {name}: not an object")
        return value

    def array(self, name: str) -> list[Any]:
        """Parse a JSON array."""
        value = self._json(name)
        if not isinstance(value, list):
            raise ConvertError(f"parse {name}: not an array")
        return value

    def object_if_there(self, name: str) -> dict[str, Any]:
        """Parse a JSON object; empty if the file is missing."""
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
