"""What can go wrong with the store, and with registries elsewhere. No text of these names a path: clients read them.

StoreError                  the disk said no; `str()` says what could not be done and why
├── ModelMissing            nothing is stored under a name
├── BlobMissing             a blob is not there
├── BlobTooLarge            a blob is larger than its reader takes
├── DigestMismatch          the bytes are not those that were announced
├── CorruptDownload         the same of a download
├── Stopped                 nobody waits for it any more
└── DiskFull                there is less room than a download takes

RegistryError               a registry did not do what it was asked for; `str()` says what went wrong
├── Unreachable             no connection, or one that broke
│   └── Stalled             a connection on which nothing happens
├── Untrusted               an address, a redirect or a token server that nobody should be sent to
├── BadAnswer               an answer that makes no sense, or is larger than it may be
├── BadStatus               an answer that refuses; `status` has the number
│   └── NotFound            404
├── AccessDenied            not without other rights
└── KeyUnusable             the key that proves who asks cannot be read or made
"""

from __future__ import annotations

import threading
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


class CorruptDownload(StoreError):
    """The bytes that a registry sent are not those that it announced."""

    def __init__(self, expected: Digest, got: Digest) -> None:
        super().__init__(f"digest mismatch, file must be downloaded again: want {expected}, got {got}")


class DiskFull(StoreError):
    """There is less room than a download takes; both are in bytes."""

    def __init__(self, needed: int, free: int) -> None:
        super().__init__(f"no space left on device: {human_size(needed)} needed, {human_size(free)} free")


class Stopped(StoreError):
    """Nobody waits for this any more."""

    def __init__(self) -> None:
        super().__init__("stopped")


class RegistryError(Exception):
    """A registry did not do what it was asked for."""


class Unreachable(RegistryError):
    """No connection, or one that broke. Another try may do better."""


class Stalled(Unreachable):
    """Nothing has come for too long."""


class Untrusted(RegistryError):
    """An address, a redirect or a token server that nobody should be sent to."""


class BadAnswer(RegistryError):
    """An answer that makes no sense, or is larger than it may be."""


class BadStatus(RegistryError):
    """An answer that refuses. `retry_after` is how many seconds it asks us to wait, None if it does not say."""

    def __init__(self, status: int, text: str, retry_after: float | None = None) -> None:
        super().__init__(f"{status}: {text}")
        self.status = status
        self.retry_after = retry_after


class NotFound(BadStatus):
    """There is no such thing at this registry."""

    def __init__(self) -> None:
        super().__init__(404, "")

    def __str__(self) -> str:
        return "file does not exist"


class AccessDenied(RegistryError):
    """The registry knows who asks, or cannot know, and says no."""

    def __init__(self) -> None:
        super().__init__("unauthorized: access denied")


class KeyUnusable(RegistryError):
    """The key that proves to registries who asks cannot be read or made."""


def require_going(stopping: threading.Event | None) -> None:
    """Raise Stopped if that is set."""
    if stopping is not None and stopping.is_set():
        raise Stopped


def human_size(count: int) -> str:
    """A number of bytes for people, in decimal units: `4.7 GB`."""
    for unit, name in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "KB")):
        if count >= unit:
            return f"{count / unit:.1f} {name}"
    return f"{count} B"


@contextmanager
def without_paths(action: str) -> Iterator[None]:
    """Turn an OSError, whose text names a path, into a StoreError that does not."""
    try:
        yield
    except OSError as error:
        raise StoreError(f"cannot {action}: {error.strerror or 'input/output error'}") from error
