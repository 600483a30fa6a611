"""What can go wrong with the store. No text of these names a path: clients read them.

StoreError                  the disk said no; `str()` says what could not be done and why
├── ModelMissing            nothing is stored under a name
├── BlobMissing             a blob is not there
├── BlobTooLarge            a blob is larger than its reader takes
└── DigestMismatch          the bytes are not those that were announced
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from registry.names import Digest, ModelName


class StoreError(Exception):
    """Something at rest cannot be read or written."""


class ModelMissing(StoreError):
    """Nothing is stored under this name."""

    def __init__(self, name: ModelName) -> None:
        super().__init__(f"model '{name.shortest}' not found")


class BlobMissing(StoreError):
    """This blob is not in the store."""

    def __init__(self, digest: Digest) -> None:
        super().__init__(f"blob {digest} not found")


class BlobTooLarge(StoreError):
    """This blob is larger than its reader takes."""

    def __init__(self, digest: Digest, limit: int) -> None:
        super().__init__(f"blob {digest} is larger than {limit} bytes")


class DigestMismatch(StoreError):
    """The bytes are not those that were announced."""

    def __init__(self, expected: Digest, got: Digest) -> None:
        super().__init__(f'digest mismatch, expected "{expected}", got "{got}"')


@contextmanager
def without_paths(action: str) -> Iterator[None]:
    """Turn an OSError, whose text names a path, into a StoreError that does not."""
    try:
        yield
    except OSError as error:
        raise StoreError(f"cannot {action}: {error.strerror or 'input/output error'}") from error
