"""Chooses the GGUF files of a repository for a tag (a file name or a quantization), and the projector."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from registry.names import DEFAULT_TAG, Digest

_OTHER_FILES: Final = ("mmproj", "imatrix", "mtp-", "eagle3-", "dflash-", "dspark-")
"""Substrings in names of GGUF files that are no model by themselves."""
_FAVOURITES: Final = ("Q4_K_M", "Q4_K_S", "Q5_K_M", "Q4_0", "Q6_K", "Q8_0")
_SHARD = re.compile(r"(.+)-(\d{5})-of-(\d{5})")
_BITS = re.compile(r"(?:^|[-._/])(?:bf|i?q|f)(\d+)", re.IGNORECASE)
_F16 = re.compile(r"(?:^|[-._/])f16", re.IGNORECASE)
_DEFAULT_BITS: Final = 16
_SUFFIX: Final = ".gguf"


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A large file of a repository: path, size in bytes, digest."""

    path: str
    size: int
    digest: Digest


@dataclass(frozen=True, slots=True)
class Candidate:
    """A model: one file, or all parts of a split one in order. `path` is without suffix and part number."""

    path: str
    files: tuple[RemoteFile, ...]


def choose_model(files: Iterable[RemoteFile], tag: str) -> Candidate | None:
    """The model for a tag: by file name, else by quantization; None if there is none."""
    candidates = _candidates(files)
    if tag.lower() == DEFAULT_TAG:
        favourites = (_of_type(candidates, quant) for quant in _FAVOURITES)
        return next(filter(None, favourites), None) or next(iter(candidates), None)
    return _by_name(candidates, tag) or _of_type(candidates, tag)


def choose_projector(files: Iterable[RemoteFile], model: Candidate) -> RemoteFile | None:
    """The projector nearest to the model's folder, then nearest in bits; None if there is none."""
    bits = _bits(model.path)

    def distance(file: RemoteFile) -> tuple[int, int, bool, str]:
        difference = abs(_bits(file.path) - bits)
        return -_shared_folders(file.path, model.path), difference, _F16.search(file.path) is None, file.path

    projectors = [
        file for file in files if file.path.lower().endswith(_SUFFIX) and "mmproj" in _name(file.path).lower()
    ]
    return min(projectors, key=distance, default=None)


def _candidates(files: Iterable[RemoteFile]) -> list[Candidate]:
    """All models in order of their paths, without incomplete split ones."""
    groups: dict[tuple[str, int], list[tuple[int, RemoteFile]]] = defaultdict(list)
    for file in sorted(files, key=lambda file: file.path):
        stem = file.path[: -len(_SUFFIX)]
        if file.path.lower().endswith(_SUFFIX) and not any(word in _name(stem).lower() for word in _OTHER_FILES):
            match = _SHARD.fullmatch(stem)
            path, number, count = (match[1], int(match[2]), int(match[3])) if match else (stem, 1, 1)
            groups[path, count].append((number, file))
    return [
        Candidate(path, tuple(file for _, file in parts))
        for (path, count), parts in groups.items()
        if [number for number, _ in parts] == list(range(1, count + 1))
    ]


def _by_name(candidates: Sequence[Candidate], tag: str) -> Candidate | None:
    name = tag.lower()

    def names(candidate: Candidate) -> set[str]:
        return {_name(path).lower() for path in (candidate.path + _SUFFIX, *(file.path for file in candidate.files))}

    return next((candidate for candidate in candidates if name in names(candidate)), None)


def _of_type(candidates: Sequence[Candidate], quant: str) -> Candidate | None:
    """The candidate with this quantization in its path. `Q4_K` matches `Q4_K_M` only if nothing matches exactly."""
    for end in (r"(?:[-./]|$)", r"[-._/]"):
        matches = _finder(rf"(?:^|[-._/]){re.escape(quant)}{end}")
        if candidate := next(filter(matches, candidates), None):
            return candidate
    return None


def _finder(pattern: str) -> Callable[[Candidate], bool]:
    compiled = re.compile(pattern, re.IGNORECASE)
    return lambda candidate: compiled.search(candidate.path) is not None


def _bits(path: str) -> int:
    """Bits per weight, from a file's name."""
    widths = _BITS.findall(path)
    return int(widths[-1]) if widths else _DEFAULT_BITS


def _shared_folders(one: str, other: str) -> int:
    count = 0
    for mine, theirs in zip(one.split("/")[:-1], other.split("/")[:-1], strict=False):
        if mine != theirs:
            break
        count += 1
    return count


def _name(path: str) -> str:
    return path.rpartition("/")[2]
