"""The JSON-Schema-Test-Suite: schemas with instances that they allow and refuse."""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from referencing import Registry, Resource
from referencing.jsonschema import DRAFT7, DRAFT202012

from bench.models import CACHE

DRAFTS = ("draft2020-12", "draft7")
_REMOTE = "http://localhost:1234/"


@dataclass(frozen=True, slots=True)
class Case:
    """One schema of the suite; `keyword` is the name of its file. `valid` and `invalid` are instances."""

    draft: str
    keyword: str
    description: str
    schema: Any
    valid: tuple[Any, ...]
    invalid: tuple[Any, ...]


def suite_folder() -> Path:
    """The suite that the source package of `jsonschema` ships, fetched by pip if it is not in the cache yet."""
    folder = CACHE / "json-schema-suite"
    package = f"jsonschema-{version('jsonschema')}"
    if not (folder / package).is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", "jsonschema"]
        subprocess.run([*command, "--dest", folder, package.replace("-", "==")], check=True)
        with tarfile.open(folder / f"{package}.tar.gz") as archive:
            archive.extractall(folder, filter="data")
    return folder / package / "json"


def cases(suite: Path) -> Iterator[Case]:
    """All schemas of the required part of the suite, by draft and keyword."""
    for draft in DRAFTS:
        for file in sorted((suite / "tests" / draft).glob("*.json")):
            for group in json.loads(file.read_text(encoding="utf-8")):
                valid, invalid = (
                    tuple(test["data"] for test in group["tests"] if test["valid"] is wanted)
                    for wanted in (True, False)
                )
                yield Case(draft, file.stem, group["description"], group["schema"], valid, invalid)


def remotes(suite: Path) -> Registry[Any]:
    """The schemas that others of the suite refer to."""
    folder = suite / "remotes"
    resources = []
    for file in folder.rglob("*.json"):
        name = file.relative_to(folder).as_posix()
        specification = DRAFT7 if name.startswith("draft7/") else DRAFT202012
        content = json.loads(file.read_text(encoding="utf-8"))
        resources.append((_REMOTE + name, Resource.from_contents(content, default_specification=specification)))
    return Registry[Any]().with_resources(resources)
