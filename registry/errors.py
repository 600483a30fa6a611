"""Errors of the store and of registries. Their texts go to clients, so none names a path.

StoreError                  the disk or the store refused; `str()` says what failed and why
├── ModelMissing            nothing is stored under this name
├── BlobMissing             the blob is not in the store
├── BlobTooLarge            the blob exceeds the reader's limit
├── DigestMismatch          uploaded bytes do not have the announced digest
├── CorruptDownload         downloaded bytes do not have the announced digest
├── Stopped                 the operation was cancelled
└── DiskFull                not enough free space

RegistryError               a request to a registry failed; `str()` says why
├── Unreachable             no connection, or it broke
│   └── Stalled             the connection is silent
├── Untrusted               a forbidden address, redirect or token server
├── BadAnswer               a malformed or oversized response
├── BadStatus               an HTTP status of 400 or above, in `status`
│   └── NotFound            404
├── AccessDenied            the token was refused
└── KeyUnusable             our key cannot be read or created
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from registry.names import Digest, ModelName
from registry.sizes import decimal_size


class StoreError(Exception):
    """The store cannot read or write something."""


class ModelMissing(StoreError):
    """Nothing is stored under this name."""

    def __init__(self, name: ModelName) -> None:
        super().__init__(f"model '{name.shortest}' not found")


class BlobMissing(StoreError):
    """The blob is not in the store."""

    def __init__(self, digest: Digest) -> None:
        super().__init__(f"blob {digest} not found")


class BlobTooLarge(StoreError):
    """The blob exceeds the reader's limit, in bytes."""

    def __init__(self, digest: Digest, limit: int) -> None:
        super().__init__(f"blob {digest} is larger than {limit} bytes")


class DigestMismatch(StoreError):
    """Uploaded bytes do not have the announced digest."""

    def __init__(self, expected: Digest, got: Digest) -> None:
        super().__init__(f'digest mismatch, expected "{expected}", got "{got}"')


class CorruptDownload(StoreError):
    """Downloaded bytes do not have the announced digest."""

    def __init__(self, expected: Digest, got: Digest) -> None:
        super().__init__(f"digest mismatch, file must be downloaded again: want {expected}, got {got}")


class DiskFull(StoreError):
    """Not enough free space; both sizes are in bytes."""

    def __init__(self, needed: int, free: int) -> None:
        super().__init__(f"no space left on device: {decimal_size(needed)} needed, {decimal_size(free)} free")


class Stopped(StoreError):
    """The operation was cancelled."""

    def __init__(self) -> None:
        super().__init__("stopped")


class RegistryError(Exception):
    """A request to a registry failed."""


class Unreachable(RegistryError):
    """No connection, or it broke. Worth a retry."""


class Stalled(Unreachable):
    """The connection was silent for too long."""


class Untrusted(RegistryError):
    """A forbidden address, redirect or token server."""


class BadAnswer(RegistryError):
    """A malformed or oversized response."""


class BadStatus(RegistryError):
    """An HTTP status of 400 or above. `retry_after` is the requested pause in seconds, if any."""

    def __init__(self, status: int, text: str, retry_after: float | None = None) -> None:
        super().__init__(f"{status}: {text}")
        self.status = status
        self.retry_after = retry_after


class NotFound(BadStatus):
    """The registry answered 404."""

    def __init__(self) -> None:
        super().__init__(404, "")

    def __str__(self) -> str:
        return "file does not exist"


class AccessDenied(RegistryError):
    """The registry refuses access, even with a new token."""

    def __init__(self) -> None:
        super().__init__("unauthorized: access denied")


class KeyUnusable(RegistryError):
    """Our key cannot be read or created."""


def raise_if_stopped(stopping: threading.Event | None) -> None:
    """Raise Stopped if the event is set."""
    if stopping is not None and stopping.is_set():
        raise Stopped


@contextmanager
def without_paths(action: str) -> Iterator[None]:
    """Turn an OSError, whose text names a path, into a StoreError `cannot {action}: reason`."""
    try:
        yield
    except OSError as error:
        raise StoreError(f"cannot {action}: {error.strerror or 'input/output error'}") from error
