"""Which requests are let in, by their API keys: the key, its scope, and its limits."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from server.http.cors import Headers
from server.http.errors import ErrorInfo
from server.http.keys import APIKey, KeyRing, Scope

_MINUTE = 60.0
_BEARER = "bearer "


class Refused(Exception):
    """A request that is not let in: what its client is told, headers beside it, and its key if that is known here."""

    def __init__(self, info: ErrorInfo, headers: Headers, key: APIKey | None = None) -> None:
        super().__init__(info.message)
        self.info = info
        self.headers = headers
        self.key = key


@dataclass(slots=True)
class _Allowance:
    """Requests that a key may still make at once; it fills up in a minute. `at`: seconds when that was true."""

    left: float
    at: float


@dataclass(slots=True)
class Access:
    """Lets requests in. Belongs to the event loop. `clock` gives seconds."""

    ring: KeyRing
    clock: Callable[[], float] = time.monotonic
    _allowances: dict[str, _Allowance] = field(default_factory=dict)
    _running: Counter[str] = field(default_factory=Counter)

    @contextmanager
    def entered(self, needed: Scope | None, authorization: str, x_api_key: str) -> Iterator[APIKey | None]:
        """Count a request while the context lasts; gives its key, None where none is needed. Raises Refused.

        `needed`: the scope of what is asked for; None for what everybody may. The key is in `Authorization: Bearer`, or
        in `X-Api-Key`.
        """
        if needed is None or not self.ring.closed:
            yield None
            return
        key = self._known(authorization, x_api_key)
        if needed not in key.scopes:
            message = f"the API key {key.name!r} may not do this: it has no scope {needed!r}"
            raise Refused(ErrorInfo(403, message, code="insufficient_scope"), [], key)
        if needed != "infer":  # which has no limits: a long upload takes no chat's place
            yield key
            return
        self._spend(key)
        self._running[key.name] += 1
        try:
            yield key
        finally:
            self._running[key.name] -= 1

    def _known(self, authorization: str, x_api_key: str) -> APIKey:
        text = x_api_key.strip()
        if authorization[: len(_BEARER)].lower() == _BEARER:
            text = authorization[len(_BEARER) :].strip() or text  # clients send it empty beside the other header
        if not text:
            message = "an API key is needed, as the header `Authorization: Bearer KEY`"
            raise Refused(ErrorInfo(401, message, code="missing_api_key"), [(b"www-authenticate", b"Bearer")])
        if (key := self.ring.find(text)) is None:
            headers = [(b"www-authenticate", b'Bearer error="invalid_token"')]
            raise Refused(ErrorInfo(401, "the API key is not known here", code="invalid_api_key"), headers)
        return key

    def _spend(self, key: APIKey) -> None:
        """Take a request from what the key may still make. Raises Refused."""
        if key.concurrent and self._running[key.name] >= key.concurrent:
            raise _too_many(key, f"{key.concurrent} requests at once", 1)
        if not key.requests_per_minute:
            return
        now, most = self.clock(), float(key.requests_per_minute)
        before = self._allowances.get(key.name) or _Allowance(most, now)
        left = min(most, before.left + (now - before.at) * most / _MINUTE)
        if left < 1:
            seconds = math.ceil((1 - left) * _MINUTE / most)
            raise _too_many(key, f"{key.requests_per_minute} requests a minute", seconds)
        self._allowances[key.name] = _Allowance(left - 1, now)


def _too_many(key: APIKey, limit: str, seconds: int) -> Refused:
    info = ErrorInfo(429, f"too many requests: this API key has {limit}", code="rate_limit_exceeded")
    return Refused(info, [(b"retry-after", str(seconds).encode())], key)
