"""Bearer tokens: a 401 names a token server, which gives a token for a signed request."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated
from urllib.parse import parse_qsl, urlencode

import httpx
import msgspec

from registry.errors import BadAnswer, BadStatus, Untrusted
from registry.remote.keys import Key
from registry.remote.transport import Transport, retry_after

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
