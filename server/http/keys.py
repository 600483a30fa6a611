"""API keys: their file, their environment variable, and the ring in which a request's key is looked up.

A key is a random text that is shown once, when it is made. The file has its SHA-256: of 256 random bits that says
nothing. While there is a key file, even without a key in it, or a key in PRONK_API_KEYS, requests need one.
"""

from __future__ import annotations

import errno
import hashlib
import hmac
import logging
import os
import re
import secrets
import stat
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Literal, get_args

import msgspec

from registry.logfields import fields
from registry.storage.files import Stamp, make_directory
from registry.storage.leases import FolderLock

Scope = Literal["infer", "read", "manage"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
USUAL: tuple[Scope, ...] = ("infer", "read")
_PREFIX = "pronk_"
_BYTES = 32
_LEAST = 16  # characters of a key that somebody else has made
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_KEY = re.compile(r"[!-~]+")  # what a header can carry: printable ASCII without blanks
_LARGEST = 1 << 20  # bytes of a file of keys: thousands of them
_LATEST = 253402300799  # the end of the year 9999, which is the last one that has a date
_UNKNOWN = Stamp(0, 0, 0, 0, 0)  # of a file that cannot be looked at
log = logging.getLogger("pronk.access")


class KeysError(Exception):
    """Keys that cannot be read, made or found; the message is one line."""


LARGEST_LIMIT = 1_000_000_000
Limit = Annotated[int, msgspec.Meta(ge=0, le=LARGEST_LIMIT)]
"""Requests a minute, or at once; 0: any number."""


class APIKey(msgspec.Struct, frozen=True, kw_only=True):
    """A key without its text. `sha256` is in hexadecimal; limits of 0 are none; `created` is in Unix seconds."""

    name: Annotated[str, msgspec.Meta(pattern=f"^{_NAME.pattern}\\Z")]
    sha256: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]
    scopes: tuple[Scope, ...] = USUAL
    requests_per_minute: Limit = 0
    concurrent: Limit = 0
    created: Annotated[int, msgspec.Meta(ge=0, le=_LATEST)] = 0


class _File(msgspec.Struct):
    keys: list[APIKey]


def digest_of(text: str) -> str:
    """What is kept of a key."""
    return hashlib.sha256(text.encode()).hexdigest()


def from_variable(text: str) -> tuple[APIKey, ...]:
    """The keys of PRONK_API_KEYS: `KEY` or `NAME:SCOPE+SCOPE:KEY`, with commas between. Raises KeysError.

    A text without any is an error: who sets the variable does not want an open server.
    """
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if text and not parts:
        raise KeysError("PRONK_API_KEYS has no key in it")
    return _distinct([_from_text(number, part) for number, part in enumerate(parts, 1)], "PRONK_API_KEYS")


def _from_text(number: int, text: str) -> APIKey:
    name, scopes, key = f"environment-{number}", "+".join(USUAL), text
    if text.count(":") >= 2:
        name, scopes, key = text.split(":", 2)
    if len(key) < _LEAST:
        raise KeysError(f"PRONK_API_KEYS: key {number} is shorter than {_LEAST} characters")
    if not _KEY.fullmatch(key):
        raise KeysError(f"PRONK_API_KEYS: key {number} must be printable ASCII without blanks, as headers are")
    try:
        return APIKey(name=checked_name(name), sha256=digest_of(key), scopes=checked_scopes(scopes.split("+")))
    except KeysError as error:
        raise KeysError(f"PRONK_API_KEYS: {error}") from None


def checked_name(name: str) -> str:
    """The name of a key. Raises KeysError if it cannot be one."""
    if not _NAME.fullmatch(name):
        raise KeysError(f"{name!r} is no name of a key: letters, digits, `.`, `_` and `-`, 64 at most")
    return name


def checked_scopes(names: Iterable[str]) -> tuple[Scope, ...]:
    """Scopes in their order, each once. Raises KeysError for an unknown one, or none at all."""
    wanted = set(names)
    if unknown := sorted(wanted.difference(SCOPES)):
        raise KeysError(f"unknown scope {unknown[0]!r}: {', '.join(SCOPES)}")
    if not wanted:
        raise KeysError(f"a key needs a scope: {', '.join(SCOPES)}")
    return tuple(scope for scope in SCOPES if scope in wanted)


class KeyFile:
    """The file of keys, readable by its owner alone. Methods raise KeysError."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> tuple[APIKey, ...] | None:
        """The keys in it; None if there is no file."""
        try:
            data = _contents(self.path)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise KeysError(f"the API keys in {self.path} cannot be read: {error.strerror or error}") from None
        try:
            keys = msgspec.json.decode(data, type=_File).keys
        except msgspec.MsgspecError as error:
            raise KeysError(f"the API keys in {self.path} cannot be read: {error}") from None
        return _distinct(keys, str(self.path))

    def add(self, name: str, scopes: Sequence[Scope], requests_per_minute: int = 0, concurrent: int = 0) -> str:
        """Make a key; returns its text, which nobody can tell later."""
        text = _PREFIX + secrets.token_urlsafe(_BYTES)
        key = APIKey(
            name=checked_name(name),
            sha256=digest_of(text),
            scopes=checked_scopes(scopes),
            requests_per_minute=requests_per_minute,
            concurrent=concurrent,
            created=int(time.time()),
        )
        with self._lock():
            keys = self.read() or ()
            if any(other.name == name for other in keys):
                raise KeysError(f"there is a key {name!r} already; revoke it first, or take another name")
            self._write([*keys, key])
        return text

    def revoke(self, name: str) -> int:
        """Remove a key; returns how many are left. Its requests are refused from now on, those that run go on."""
        with self._lock():
            keys = self.read() or ()
            left = [key for key in keys if key.name != name]
            if len(left) == len(keys):
                raise KeysError(f"there is no key {name!r} in {self.path}")
            self._write(left)
        return len(left)

    def _lock(self) -> FolderLock:
        try:
            make_directory(self.path.parent)
        except OSError as error:
            raise KeysError(f"{self.path.parent} cannot be made: {error.strerror}") from None
        return FolderLock(self.path.parent)

    def _write(self, keys: Sequence[APIKey]) -> None:
        # No PendingFile: what that publishes everybody may read.
        unfinished = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        data = msgspec.json.format(msgspec.json.encode(_File(list(keys))), indent=2)
        try:
            descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(data + b"\n")
                file.flush()
                os.fsync(descriptor)
            unfinished.replace(self.path)
        except OSError as error:
            raise KeysError(f"{self.path} cannot be written: {error.strerror}") from None


class KeyRing:
    """The keys that count now: those of the environment, and those of the file, which is read again when it changes.

    Raises KeysError for keys that cannot be read, or if keys are `required` and there is none.
    """

    def __init__(self, path: Path, variable: str = "", *, required: bool = False) -> None:
        self._file = KeyFile(path)
        self._of_environment = from_variable(variable)
        self._stamp = self._look()
        self._of_file = self._file.read()
        if required and not self.keys:
            raise KeysError(
                "PRONK_REQUIRE_API_KEYS is set, and there is no API key; make one: pronk keys add NAME"
                f" (it is kept in {path}), or set PRONK_API_KEYS"
            )
        self._stays_closed = required or bool(self._of_environment)

    @property
    def keys(self) -> tuple[APIKey, ...]:
        """All keys."""
        return self._of_environment + (self._of_file or ())

    @property
    def closed(self) -> bool:
        """Whether requests need a key."""
        self._refresh()
        return self._stays_closed or self._of_file is not None

    def find(self, text: str) -> APIKey | None:
        """The key with this text. Takes as long for a wrong one as for a right one."""
        digest, found = digest_of(text), None
        for key in self.keys:
            if hmac.compare_digest(key.sha256, digest):
                found = key
        return found

    def _refresh(self) -> None:
        """Read the file again if it has changed. One that cannot be read leaves what it said before."""
        stamp = self._look()
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self._of_file = self._file.read()
        except KeysError as error:
            self._of_file = self._of_file or ()
            log.error("API keys stay as they were: %s", error)
        else:
            log.info("API keys read", extra=fields(keys=len(self.keys)))
            if self._of_file is None and not self._stays_closed:
                log.warning("requests need no API key any more: %s is gone", self._file.path)

    def _look(self) -> Stamp | None:
        try:
            return Stamp.of(self._file.path.stat())
        except FileNotFoundError:
            return None
        except OSError:
            return _UNKNOWN


def _contents(path: Path) -> bytes:
    """The bytes of a regular file: a pipe or a device would keep the server waiting. Raises OSError."""
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
        status = os.fstat(file.fileno())
        if stat.S_ISDIR(status.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if not stat.S_ISREG(status.st_mode):
            raise OSError("not a regular file")
        if status.st_size > _LARGEST:
            raise OSError(f"larger than {_LARGEST} bytes")
        return file.read(_LARGEST)


def _distinct(keys: Sequence[APIKey], where: str) -> tuple[APIKey, ...]:
    names = [key.name for key in keys]
    if twice := next((name for name in names if names.count(name) > 1), ""):
        raise KeysError(f"the API keys in {where} cannot be read: two are called {twice!r}")
    texts: dict[str, str] = {}
    for key in keys:
        if (other := texts.setdefault(key.sha256, key.name)) != key.name:
            raise KeysError(f"the API keys in {where} cannot be read: {other!r} and {key.name!r} have the same text")
    return tuple(keys)
