"""Models that come in several GGUF files: which files belong together. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from modelfile.create.errors import CreateError
from modelfile.create.fileset import UploadedFile
from registry.gguf import GGUFError, GGUFHeader, require_complete

_NAME = re.compile(r"(?P<prefix>.+)-(?P<index>\d{5})-of-(?P<count>\d{5})\.gguf")


@dataclass(frozen=True, slots=True)
class Source:
    """The files of one model, the first shard first; one file, unless it is split."""

    files: tuple[UploadedFile, ...]
    headers: tuple[GGUFHeader, ...]

    @property
    def header(self) -> GGUFHeader:
        """What the first file says."""
        return self.headers[0]

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.path.stat().st_size for file in self.files)


@dataclass(frozen=True, slots=True)
class _Shard:
    file: UploadedFile
    header: GGUFHeader
    prefix: str
    index: int
    count: int


def group(files: Iterable[tuple[UploadedFile, GGUFHeader]]) -> list[Source]:
    """Put the shards of each model together, at the place of the first of them. Raises CreateError."""
    shards: dict[str, list[_Shard]] = {}
    found: dict[str, Source] = {}
    for file, header in files:
        if _number(header, "split.count") in (None, 0, 1):
            found[file.name] = Source((file,), (header,))
            continue
        shard = _shard(file, header)
        shards.setdefault(shard.prefix, []).append(shard)
        found[f"{shard.prefix}-"] = Source((), ())
    for prefix, members in shards.items():
        found[f"{prefix}-"] = _joined(members)
    return list(found.values())


def _shard(file: UploadedFile, header: GGUFHeader) -> _Shard:
    """A file that says it is one of several, checked against its name."""
    whole = f'split GGUF "{file.name}"'
    name = _NAME.fullmatch(file.name)
    if name is None:
        raise CreateError(f"{whole} must use llama.cpp split filename pattern")
    index, count = int(name["index"]), int(name["count"])
    number, total = _number(header, "split.no"), _number(header, "split.count")
    if total != count:
        raise CreateError(f"{whole} filename count {count} does not match metadata count {total}")
    if number is None:
        raise CreateError(f"{whole} is missing split.no metadata")
    if number + 1 != index:
        raise CreateError(f"{whole} filename index {index} does not match metadata index {number + 1}")
    return _Shard(file, header, name["prefix"], index, count)


def _joined(shards: list[_Shard]) -> Source:
    shards = sorted(shards, key=lambda shard: shard.index)
    whole, count = f'split GGUF "{shards[0].file.name}"', shards[0].count
    if len(shards) != count:
        raise CreateError(f"{whole} has {len(shards)} shards, expected {count}")
    headers = tuple(shard.header for shard in shards)
    try:
        require_complete(headers)
    except GGUFError as error:
        raise CreateError(f"{whole}: {error}") from None
    return Source(tuple(shard.file for shard in shards), headers)


def _number(header: GGUFHeader, key: str) -> int | None:
    """A number about the split, which some programs put under the architecture's name."""
    value: Any = header.metadata.get(key, header.field(key))
    return value if isinstance(value, int) and not isinstance(value, bool) else None
