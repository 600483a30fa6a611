"""Bearer tokens: a 401 names a token server, which gives a token for a request signed with our ed25519 key."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
import re
import secrets
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final
from urllib.parse import parse_qsl, urlencode

import httpx
import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from registry.errors import BadAnswer, BadStatus, KeyUnusable, Untrusted
from registry.remote.transport import Transport, retry_after

# The ed25519 key that identifies us to registries, in Ollama's files.


_PARAMETER = re.compile(r'(\w+)="(.*?)"(?=,|$)')
_EMPTY = base64.b64encode(hashlib.sha256(b"").hexdigest().encode()).decode()
_MAX_CHALLENGE = 4 << 10
_ALIASES = {"hf.co": "huggingface.co"}
"""The one registry whose token server is another host of the same company."""


class _TokenAnswer(msgspec.Struct):
    token: Annotated[str, msgspec.Meta(pattern="^[!-~]+$")]


@dataclass(frozen=True, slots=True)
class Challenge:
    """The `WWW-Authenticate` header of a registry: the token server (`realm`), and what the token is for."""

    realm: str
    service: str
    scope: str

    @classmethod
    def parse(cls, header: str) -> Challenge:
        """Read the header; missing fields are empty. A quotation mark inside a value is part of it."""
        parameters = dict(_PARAMETER.findall(header[:_MAX_CHALLENGE]))
        return cls(parameters.get("realm", ""), parameters.get("service", ""), parameters.get("scope", ""))

    def url(self, registry: httpx.URL, now: int, nonce: bytes) -> httpx.URL:
        """The URL to request the token from. Raises Untrusted if it is not the registry's own host and scheme."""
        realm = _realm(self.realm)
        if _host(realm) not in (_host(registry), _ALIASES.get(registry.host)):
            raise Untrusted(f'realm host "{_host(realm)}" does not match original host "{_host(registry)}"')
        if realm.scheme != registry.scheme:
            raise Untrusted(f'realm scheme "{realm.scheme}" does not match original scheme "{registry.scheme}"')
        query = [
            *parse_qsl(realm.query.decode(), keep_blank_values=True),
            ("nonce", base64.urlsafe_b64encode(nonce).decode().rstrip("=")),
            *(("scope", scope) for scope in self.scope.split(" ")),
            ("service", self.service),
            ("ts", str(now)),
        ]
        return realm.copy_with(query=urlencode(sorted(query, key=lambda pair: pair[0])).encode(), fragment=None)


class Authority:
    """The token of one pull or push, shared by its connections. Belongs to one event loop."""

    def __init__(self, keys: Path, clock: Callable[[], float] = time.time) -> None:
        self._keys = keys
        self._clock = clock
        self._lock = asyncio.Lock()
        self.token = ""

    @property
    def headers(self) -> dict[str, str]:
        """The `Authorization` header, empty without a token."""
        return {"Authorization": f"Bearer {self.token}"} if self.token else {}

    async def renew(self, transport: Transport, registry: httpx.URL, challenge: str, refused: str) -> None:
        """Replace a refused token, unless another task just has. Raises RegistryError."""
        async with self._lock:
            if self.token == refused:
                self.token = await self._ask(transport, registry, challenge)

    async def _ask(self, transport: Transport, registry: httpx.URL, challenge: str) -> str:
        url = Challenge.parse(challenge).url(registry, int(self._clock()), secrets.token_bytes(16))
        key = await asyncio.to_thread(Key.load_or_make, self._keys)
        signature = key.sign(f"GET,{url},{_EMPTY}".encode())
        async with transport.send("GET", url, {"Authorization": signature}) as response:
            data = await transport.read(response)
        if response.status_code >= 400:
            text = data.decode("utf-8", "replace")
            raise BadStatus(response.status_code, text, retry_after(response.headers))
        try:
            return msgspec.json.decode(data, type=_TokenAnswer).token
        except (ValueError, RecursionError):
            raise BadAnswer("the registry's answer holds no token") from None


def _realm(text: str) -> httpx.URL:
    try:
        return httpx.URL(text)
    except (httpx.InvalidURL, ValueError):
        raise Untrusted("the registry names an invalid token server") from None


def _host(url: httpx.URL) -> str:
    return url.netloc.decode()


PRIVATE: Final = "id_ed25519"


PUBLIC: Final = "id_ed25519.pub"


_MOST_BYTES = 64 << 10  # of a key file


class Key:
    """An ed25519 key. Thread-safe."""

    def __init__(self, private: Ed25519PrivateKey) -> None:
        self._private = private

    @classmethod
    def load_or_make(cls, folder: Path) -> Key:
        """The key in a folder, created if missing. Blocking. Raises KeyUnusable."""
        with _readable():
            if not (folder / PRIVATE).exists():
                _make(folder)
            with (folder / PRIVATE).open("rb") as file:
                private = serialization.load_ssh_private_key(file.read(_MOST_BYTES), password=None)
        if not isinstance(private, Ed25519PrivateKey):
            raise KeyUnusable(f"the key {PRIVATE} is of another kind")
        return cls(private)

    @property
    def public_line(self) -> str:
        """The public key in OpenSSH's form: `ssh-ed25519 AAAA…`."""
        return _public_line(self._private).decode()

    def sign(self, data: bytes) -> str:
        """`PUBLIC_KEY:SIGNATURE` for these bytes, both base64, as Ollama's registry expects."""
        signature = base64.b64encode(self._private.sign(data)).decode()
        return f"{self.public_line.split()[1]}:{signature}"


def _make(folder: Path) -> None:
    private = Ed25519PrivateKey.generate()
    text = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )
    folder.mkdir(parents=True, exist_ok=True)
    descriptor, unfinished = tempfile.mkstemp(prefix=f".{PRIVATE}-", dir=folder)
    try:
        with open(descriptor, "wb") as file:
            file.write(text)
            file.flush()
            os.fsync(descriptor)
        with suppress(FileExistsError):  # another process was faster; its key counts
            os.link(unfinished, folder / PRIVATE)
            (folder / PUBLIC).write_bytes(_public_line(private) + b"\n")
    finally:
        os.unlink(unfinished)


def _public_line(private: Ed25519PrivateKey) -> bytes:
    return private.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)


@contextmanager
def _readable() -> Iterator[None]:
    """Turn errors into KeyUnusable, without the key's path."""
    try:
        yield
    except OSError as error:
        raise KeyUnusable(f"cannot open the key {PRIVATE}: {error.strerror or 'input/output error'}") from None
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise KeyUnusable(f"the key {PRIVATE} cannot be read") from None
