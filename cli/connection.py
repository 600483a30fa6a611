"""HTTP to the server at OLLAMA_HOST: straight, or through a proxy; plain, or with TLS.

Own code, because importing a full client takes longer than most verbs. Each request has a connection of its own.

Failure                 the request has no answer; `str()` says why
├── Unreachable         no connection to the server or its proxy
└── Broken              the connection broke, or what came is no HTTP
"""

from __future__ import annotations

import re
import socket
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from cli.arguments import CommandError
from cli.response import BadResponse, Response, connected
from server.http.hosts import is_loopback
from server.settings import Settings

if TYPE_CHECKING:
    import ssl

    from registry.remote.proxies import Proxy

_SCHEMES = ("http", "https")
_NAME = re.compile(r"(?:[a-z0-9_-]{1,63}\.)*[a-z0-9_-]{1,63}\.?", re.IGNORECASE)
_IPV6 = re.compile(r"[0-9a-f:.]*:[0-9a-f:.]*(?:%\w+)?", re.IGNORECASE)
_PATH = re.compile(r"[!-~]*")
_LONGEST_NAME = 253


class Failure(Exception):
    """The request has no answer."""


class Unreachable(Failure):
    """There is no connection to the server, or to its proxy. `refused`: nothing listens there."""

    def __init__(self, reason: str, *, refused: bool = False) -> None:
        super().__init__(reason)
        self.refused = refused


class Broken(Failure):
    """The connection broke, or what came is no HTTP."""


class Connections:
    """Makes requests. Raises CommandError for an address, a key or a proxy that cannot be used."""

    def __init__(self, settings: Settings) -> None:
        address = settings.address
        self.url = settings.client_url
        if address.scheme not in _SCHEMES:
            raise CommandError(f'OLLAMA_HOST has an unsupported protocol scheme "{address.scheme}"')
        path = address.path.strip("/")
        if not (_is_host(address.client_host) and _PATH.fullmatch(path)):
            raise CommandError(f"OLLAMA_HOST is no address of a server: {self.url}")
        self._host, self._port = address.client_host, address.port
        self._path = f"/{path}" if path else ""
        authority = address.url.partition("://")[2].partition("/")[0]
        self._headers = {"Host": authority, "User-Agent": "pronk", "Accept-Encoding": "identity"} | _key(settings)
        self._proxy = None if is_loopback(self._host) else _proxy(settings)
        self._tls = _tls() if address.scheme == "https" else None
        if self._tls and self._proxy and self._proxy.scheme == "https":
            raise CommandError("an https server is not reached through an https proxy: name an http or socks5 one")
        self._prefix = self._path
        if self._proxy and not self._tls and self._proxy.scheme.startswith("http"):  # it forwards requests
            self._headers |= self._proxy.basic_auth
            self._prefix = f"http://{authority}{self._path}"

    @contextmanager
    def request(
        self,
        method: str,
        path: str,
        body: bytes | Iterable[bytes] = b"",
        *,
        size: int | None = None,
        timeout: float | None = None,
    ) -> Iterator[Response]:
        """The response, whatever its status. Raises Failure, and so does reading it within `reading`.

        `size` is that of a body in pieces; `timeout`, in seconds, is for each step.
        """
        with self._connect(timeout) as connection:
            pieces = [body] if isinstance(body, bytes) else body
            length = len(body) if isinstance(body, bytes) else size
            head = {**self._headers, "Content-Length": str(length), "Connection": "close"}
            if isinstance(body, bytes) and body:
                head["Content-Type"] = "application/json"
            lines = [f"{method} {self._prefix}{path} HTTP/1.1", *(f"{name}: {value}" for name, value in head.items())]
            _send(connection, ["\r\n".join([*lines, "", ""]).encode()], pieces)
            with reading():
                response = Response(connection, method)
            yield response

    def _connect(self, timeout: float | None) -> socket.socket:
        """A connection to the server, or to a proxy that forwards. Raises Unreachable."""
        try:
            return self._open(timeout)
        except ConnectionRefusedError as error:
            raise Unreachable(_reason(error), refused=self._proxy is None) from None
        except (OSError, UnicodeError, BadResponse) as error:
            raise Unreachable(_reason(error)) from None

    def _open(self, timeout: float | None) -> socket.socket:
        proxy = self._proxy
        host, port = (self._host, self._port) if proxy is None else (proxy.host, proxy.port)
        opened = connected(host, port, timeout)
        try:
            if proxy and proxy.scheme == "https":
                opened = _tls().wrap_socket(opened, server_hostname=proxy.host)
            if proxy and (self._tls or proxy.scheme.startswith("socks")):
                from cli.tunnel import dig

                dig(opened, proxy, self._host, self._port)
            return self._tls.wrap_socket(opened, server_hostname=self._host) if self._tls else opened
        except BaseException:
            opened.close()
            raise


def _send(connection: socket.socket, head: Iterable[bytes], body: Iterable[bytes]) -> None:
    """Send a request as far as the server takes it: it may answer before it has everything."""
    for pieces in (head, body):
        for piece in pieces:
            try:
                connection.sendall(piece)
            except (BrokenPipeError, ConnectionResetError):
                return
            except OSError as error:
                raise Broken(_reason(error)) from None


@contextmanager
def reading() -> Iterator[None]:
    """Turn errors of a connection into Broken."""
    try:
        yield
    except (OSError, BadResponse) as error:
        raise Broken(_reason(error)) from None


def _reason(error: Exception) -> str:
    """Why a connection failed; of certificates, what is wrong with them."""
    return str(getattr(error, "verify_message", None) or getattr(error, "strerror", None) or error)


def _is_host(host: str) -> bool:
    if _IPV6.fullmatch(host):
        return True
    try:
        name = host if host.isascii() else host.encode("idna").decode()
    except UnicodeError:
        return False
    return len(name) <= _LONGEST_NAME and _NAME.fullmatch(name) is not None


def _key(settings: Settings) -> dict[str, str]:
    """The `Authorization` header with OLLAMA_API_KEY. Raises CommandError if the key cannot stand in a header."""
    key = settings.environ.get("OLLAMA_API_KEY", "").strip()
    if not (key.isascii() and key.isprintable()):
        raise CommandError("OLLAMA_API_KEY must be printable ASCII")
    return {"Authorization": f"Bearer {key}"} if key else {}


def _proxy(settings: Settings) -> Proxy | None:
    """The proxy for the server's address, None without one. Raises CommandError if it is needed and unusable."""
    from registry.remote.proxies import Proxies, UnusableProxy

    address = settings.address
    try:
        return Proxies.from_env(settings.environ).of(address.scheme, address.client_host, address.port)
    except UnusableProxy as error:
        raise CommandError(str(error)) from None


def _tls() -> ssl.SSLContext:
    from registry.remote.tls import system_tls

    return system_tls()
