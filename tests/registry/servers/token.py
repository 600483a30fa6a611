"""A token server and the gate that it opens, before any registry."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
from collections.abc import Awaitable
from dataclasses import dataclass, field

import httpx
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_ssh_public_key

from tests.registry.servers.http import Answer, Handler, Request

_NOTHING = base64.b64encode(hashlib.sha256(b"").hexdigest().encode()).decode()
_HOP_BY_HOP = {"connection", "transfer-encoding", "content-length", "host", "authorization"}


@dataclass(slots=True)
class Gate:
    """Lets nobody in who has no token; gives tokens to whoever has signed for one with a known key."""

    behind: Handler
    keys: set[str] = field(default_factory=set)
    """Public keys, each the middle of its OpenSSH line; if there are none, all are welcome."""
    tokens: set[str] = field(default_factory=set)
    asked: list[Request] = field(default_factory=list)
    realm: str = ""
    """Where tokens are to be had, if not here."""

    def __call__(self, request: Request) -> Answer | Awaitable[Answer]:
        if request.path == "/token":
            self.asked.append(request)
            return self._token(request)
        if request.headers.get("authorization", "").removeprefix("Bearer ") in self.tokens:
            return self.behind(request)
        realm = self.realm or f"http://{request.headers['host']}/token"
        scope = "repository:lib/m:pull,push other"
        return Answer(401, headers={"www-authenticate": f'Bearer realm="{realm}",service="test",scope="{scope}"'})

    def _token(self, request: Request) -> Answer:
        public, _, signature = request.headers.get("authorization", "").partition(":")
        if self.keys and public not in self.keys:
            return Answer(403, b"who are you?")
        if not _verified(public, signature, f"GET,http://{request.headers['host']}{request.target},{_NOTHING}"):
            return Answer(401, b"bad signature")
        token = secrets.token_hex(8)
        self.tokens.add(token)
        return Answer(body=json.dumps({"token": token, "expires_in": 60}).encode())


def _verified(public: str, signature: str, text: str) -> bool:
    key = load_ssh_public_key(f"ssh-ed25519 {public}".encode())
    assert isinstance(key, Ed25519PublicKey)
    try:
        key.verify(base64.b64decode(signature), text.encode())
    except InvalidSignature:
        return False
    return True


def forward(host: str) -> Handler:
    """Passes requests on to another server on this machine, and its answers back."""

    async def handler(request: Request) -> Answer:
        headers = {name: value for name, value in request.headers.items() if name not in _HOP_BY_HOP}
        async with httpx.AsyncClient(trust_env=False) as client:
            response = await client.request(
                request.method,
                f"http://{host}{request.target}",
                headers={**headers, "host": request.headers["host"]},
                content=request.body,
            )
        kept = {name: value for name, value in response.headers.items() if name not in _HOP_BY_HOP}
        if request.method == "HEAD":
            kept["content-length"] = response.headers.get("content-length", "0")
        return Answer(response.status_code, response.content, kept)

    return handler
