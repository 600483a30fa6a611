"""The models and files that a Modelfile names."""

from __future__ import annotations

import os.path
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from modelfile.parser import ModelfileError
from modelfile.paths import expand, files_at
from modelfile.spec import Recipe

Files = dict[str, Path]


@dataclass(slots=True)
class Components:
    """The name of the model below, if there is one; and files by their names, for each key of the request."""

    base: str = ""
    files: dict[str, Files] = field(default_factory=dict)


def gather(wanted: Recipe, folder: Path) -> Components:
    """Look for everything; what is no file is the name of a model. Raises ModelfileError."""
    found = Components()
    sources = [(text, expand(text, folder)) for text in wanted.sources]
    places = [path for _, path in sources if os.path.exists(path)]
    found.base = next((text for text, path in reversed(sources) if not os.path.exists(path)), "")
    if places:
        found.files["files"] = _together(map(files_at, places))
    if wanted.adapters:
        found.files["adapters"] = files_at(_existing(wanted.adapters[-1], folder))
    if wanted.drafts:
        draft = _existing(wanted.drafts[-1], folder)
        if draft in places:
            raise ModelfileError(f"DRAFT must not reference the same local path as FROM: {draft.absolute()}")
        found.files["draft_files"] = files_at(draft)
    return found


def _existing(text: str, folder: Path) -> Path:
    path = expand(text, folder)
    if not os.path.exists(path):
        raise ModelfileError(f"stat {path.absolute()}: no such file or directory")
    return path


def _together(groups: Iterable[Files]) -> Files:
    """The files of all places, by the names that they have below what all have in common."""
    found = list(groups)
    if len(found) == 1:
        return found[0]
    paths = [path.absolute() for files in found for path in files.values()]
    root = os.path.commonpath([path.parent for path in paths])
    return {path.relative_to(root).as_posix(): path for path in paths}
