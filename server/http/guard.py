"""ASGI middleware before all routes: request id, access log, redirects, CORS, the Host check, 404, 405, API keys.

Clients can observe the order: redirect an odd spelling of the path, refuse a malformed Host, check the origin, then the
host, then answer unknown paths and methods, then ask for a key. Other requests reach the application.
"""

from __future__ import annotations

import hashlib
import logging
import re
import secrets
import time
from collections.abc import Callable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from engine.fair_queue import CACHE_OWNER, CLIENT, PROGRAM
from registry.logfields import ANSWERS, REQUEST_ID, fields
from server.http.access import Access, Refused
from server.http.cors import Headers, Origins
from server.http.errors import ErrorInfo, ErrorObject, plain_error
from server.http.hosts import Hosts, InvalidHost, IPAddress, parse_host
from server.http.json_output import encode
from server.http.keys import APIKey
from server.http.keys import Scope as APIScope
from server.http.paths import PathTable, Redirect, allow_header
from server.metrics import ServerMetrics

_TEXT = (b"content-type", b"text/plain")
_JSON = (b"content-type", b"application/json; charset=utf-8")
_HTML = (b"content-type", b"text/html; charset=utf-8")
REQUEST_ID_HEADER = b"x-request-id"
MOST_NAME = 128  # characters of a program's name that count
_USABLE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,63}")
WATCHED = frozenset({"/healthz", "/readyz", "/metrics"})
"""Paths that are asked every few seconds: while all is well, that is for DEBUG."""
log = logging.getLogger("pronk.access")


class Guard:
    """The outermost middleware. Logs one line for each answer.

    `scope_of` gives the scope of API keys that a path needs, None if it is open to all. `id_headers` gives, for a
    request and its id, headers with the id beside `X-Request-Id`; `error_object_of` gives the shape of errors for a
    request.
    """

    def __init__(
        self,
        app: ASGIApp,
        paths: PathTable,
        origins: Origins,
        hosts: Hosts,
        access: Access,
        scope_of: Callable[[str], APIScope | None],
        id_headers: Callable[[Scope, str], Headers] = lambda scope, request_id: [],
        error_object_of: Callable[[Scope], ErrorObject] = lambda scope: plain_error,
        metrics: ServerMetrics | None = None,
    ) -> None:
        self.app = app
        self.paths = paths
        self.origins = origins
        self.hosts = hosts
        self.access = access
        self.scope_of = scope_of
        self.id_headers = id_headers
        self.error_object_of = error_object_of
        self.metrics = metrics or ServerMetrics()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI entry. Scopes other than HTTP pass through."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        REQUEST_ID.set(request_id := _request_id(scope))
        ANSWERS.set({})
        keys = _header(scope, b"authorization"), _header(scope, b"x-api-key")
        CLIENT.set(_client(scope, *keys))
        PROGRAM.set(_header(scope, b"user-agent")[:MOST_NAME])
        id_headers = [(REQUEST_ID_HEADER, request_id.encode()), *self.id_headers(scope, request_id)]
        answer = Answered(scope, send, id_headers)
        log.debug("request arrived", extra=fields(method=scope["method"], path=scope["path"]))
        try:
            with self.metrics.in_progress():
                await self._guard(scope, receive, answer, keys)
        finally:
            seconds = answer.log()
            route, _ = self.paths.find(scope["path"])
            self.metrics.request_ended(route, scope["method"], answer.status, seconds)

    async def _guard(self, scope: Scope, receive: Receive, answer: Answered, keys: tuple[str, str]) -> None:
        method, path = scope["method"], scope["path"]
        redirect = self.paths.redirect(method, scope["raw_path"], scope["query_string"].decode("latin-1"))
        if redirect is not None:
            await _send_redirect(answer, method, redirect)
            return
        methods = self.paths.methods(path)
        allow: Headers = []
        if methods and method not in methods:
            allow = [(b"allow", allow_header(methods).encode())]
        header, origin = _header(scope, b"host"), _header(scope, b"origin")
        try:
            host = parse_host(header)
        except InvalidHost:
            body = encode(self.error_object_of(scope)(ErrorInfo(400, "invalid Host header")))
            await _send_whole(answer, 400, [_JSON], body)
            return
        verdict = self.origins.check(method, origin, header)
        from_browser = bool(origin or _header(scope, b"sec-fetch-site"))
        status = verdict.status or self._check_host(method, host, from_browser=from_browser)
        if status is not None:
            await _send_whole(answer, status, verdict.headers + allow)
        elif not methods:
            await _send_whole(answer, 404, [_TEXT, *verdict.headers], b"404 page not found")
        elif allow:
            await _send_whole(answer, 405, [_TEXT, *verdict.headers, *allow], b"405 method not allowed")
        else:
            answer.extra = verdict.headers
            await self._let_in(scope, receive, answer, keys)

    async def _let_in(self, scope: Scope, receive: Receive, answer: Answered, keys: tuple[str, str]) -> None:
        """Pass the request on, if its API key allows it. `keys`: the headers in which that may be."""
        try:
            with self.access.entered(self.scope_of(scope["path"]), *keys) as key:
                if key is not None:
                    answer.key = key
                    CLIENT.set(f"key {key.sha256}")
                    CACHE_OWNER.set(key.sha256)
                await self.app(scope, receive, answer)
        except Refused as refused:
            answer.key = refused.key
            body = encode(self.error_object_of(scope)(refused.info))
            await _send_whole(answer, refused.info.status, [_JSON, *refused.headers], body)

    def _check_host(self, method: str, host: str | IPAddress, *, from_browser: bool) -> int | None:
        if not self.hosts.allows(host, from_browser=from_browser):
            log.warning("host refused: %s; to serve it, add it to OLLAMA_ALLOWED_HOSTS", host)
            return 403
        by_name = self.hosts.on_loopback and isinstance(host, str)
        return 204 if by_name and method == "OPTIONS" else None


class Answered:
    """Wraps `send`: adds headers, and records the status for the access log."""

    def __init__(self, scope: Scope, send: Send, headers: Headers) -> None:
        self.extra: Headers = []
        self.key: APIKey | None = None
        self._headers = headers
        self._scope = scope
        self._send = send
        self.status = 0
        self._start = time.perf_counter()

    async def __call__(self, message: Message) -> None:
        """Send a message; the start of the answer gets the headers."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message["headers"] = [*message.get("headers", ()), *self.extra, *self._headers]
        await self._send(message)

    def log(self) -> float:
        """Log the answer, and return how many seconds it took. Status 0: the client left before there was one."""
        seconds = time.perf_counter() - self._start
        scope = self._scope
        address, port = scope.get("client") or ("", 0)
        watched = scope["path"] in WATCHED and self.status == 200
        log.log(
            logging.DEBUG if watched else logging.INFO,
            "request",
            extra=fields(
                method=scope["method"],
                path=scope["path"],
                status=self.status,
                ms=round(seconds * 1000, 1),
                client=f"{address}:{port}",
                **(ANSWERS.get() or {}),
                key=self.key.name if self.key else None,
            ),
        )
        return seconds


def _header(scope: Scope, name: bytes) -> str:
    """The value of a header, "" without one. Several are joined by commas (RFC 9110, 5.2)."""
    return b", ".join(value for key, value in scope["headers"] if key == name).decode("latin-1")


def _request_id(scope: Scope) -> str:
    """The client's `X-Request-Id` if it is well-formed, else a new one."""
    sent = _header(scope, REQUEST_ID_HEADER)
    return sent if _USABLE_ID.fullmatch(sent) else new_request_id()


def new_request_id() -> str:
    """A random id of 16 hexadecimal digits."""
    return secrets.token_hex(8)


def _client(scope: Scope, authorization: str, x_api_key: str) -> str:
    """The key by which the fair queues tell clients apart: address, and hash of the API key if one is sent."""
    address, _ = scope.get("client") or ("", 0)
    key = authorization or x_api_key
    return f"{address} {hashlib.sha256(key.encode()).hexdigest()}" if key else str(address)


async def _send_redirect(send: Send, method: str, redirect: Redirect) -> None:
    headers = [(b"location", redirect.location.encode())]
    if method in ("GET", "HEAD"):
        headers.append(_HTML)
    await _send_whole(send, redirect.status, headers, redirect.body)


async def _send_whole(send: Send, status: int, headers: Headers, body: bytes = b"") -> None:
    if status != 204:
        headers = [*headers, (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
