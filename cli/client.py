"""The way to the server: the official client, at the address that OLLAMA_HOST names."""

from __future__ import annotations

import json
import ssl
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
from socksio import ProtocolError

from cli.errors import CommandError
from registry.remote.connections import system_tls
from registry.remote.proxies import Proxies, UnusableProxy
from server.http.hosts import is_loopback
from server.settings import Settings, without_environment

with without_environment():  # it makes a client when it is imported, of whatever the environment holds
    import ollama
    from ollama import ChatResponse, GenerateResponse, ProcessResponse, ProgressResponse, ResponseError

__all__ = [
    "ChatResponse",
    "Client",
    "Description",
    "GenerateResponse",
    "ProcessResponse",
    "ProgressResponse",
    "ResponseError",
    "connect",
]

MISSING = 404
_PORTS = {"http": 80, "https": 443}


class Description(ollama.ShowResponse):
    """What the server knows about a model, with the fields that the official client leaves out."""

    system: str = ""
    tensors: tuple[dict[str, Any], ...] = ()


class Client(ollama.Client):
    """The official client at the address of some settings; raises ResponseError, ConnectionError or httpx's errors."""

    def __init__(self, settings: Settings) -> None:
        self.url = settings.client_url
        try:
            settings.address.client_host.encode("idna")
            # Not what the library makes of the environment: that may name a proxy for this machine itself.
            with without_environment():
                super().__init__(
                    self.url, headers=_headers(settings), trust_env=False, proxy=_proxy(settings), verify=_tls(settings)
                )
        except (ValueError, httpx.InvalidURL):
            raise CommandError(f"OLLAMA_HOST is no address of a server: {self.url}") from None

    def get(self, path: str, timeout: float) -> httpx.Response:
        """What a path answers, whatever that is, within some seconds."""
        response: httpx.Response = self._client.get(path, timeout=timeout)
        return response

    def describe(self, model: str, *, verbose: bool = False) -> Description:
        """All that is known about a model; `verbose` includes the tensors and the vocabulary."""
        return self._request(Description, "POST", "/api/show", json={"model": model, "verbose": verbose})

    def has_blob(self, digest: str) -> bool:
        """Whether the server has a blob."""
        response = self._client.head(f"/api/blobs/{digest}")
        if response.status_code == MISSING:
            return False
        _check(response)
        return True

    def send_blob(self, digest: str, content: Iterable[bytes]) -> None:
        """Send a blob piece by piece."""
        _check(self._client.post(f"/api/blobs/{digest}", content=content))

    def make(self, request: dict[str, Any]) -> Iterator[ollama.ProgressResponse]:
        """Have a model made, with all that a request may say, and not only what the official client knows."""
        return self._request(ollama.ProgressResponse, "POST", "/api/create", json=request, stream=True)

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Turns what a call raises into a CommandError that a user can act on."""
        try:
            yield
        except ResponseError as error:
            raise CommandError(error.error) from None
        except BrokenPipeError:  # a ConnectionError, but of standard output
            raise
        except (ConnectionError, httpx.ConnectError):
            hint = "is the server running? start it with: pronk serve"
            raise CommandError(f"could not connect to {self.url}, {hint}") from None
        except (httpx.TransportError, ProtocolError) as error:  # the latter from a proxy that speaks no SOCKS
            raise CommandError(f"lost the connection to {self.url}: {error}") from None
        except json.JSONDecodeError:
            raise CommandError(f"what answers at {self.url} is no Ollama server") from None


def _proxy(settings: Settings) -> httpx.Proxy | None:
    """The proxy on the way to the server. Raises CommandError for one that cannot be used, where it is needed."""
    address = settings.address
    if address.scheme not in _PORTS:
        raise CommandError(f'OLLAMA_HOST has an unsupported protocol scheme "{address.scheme}"')
    if is_loopback(address.client_host):
        return None
    try:
        proxy = Proxies.from_env(settings.environ).of(address.scheme, address.client_host, address.port)
    except UnusableProxy as error:
        raise CommandError(str(error)) from None
    return None if proxy is None else httpx.Proxy(proxy.url, auth=proxy.auth)


def _headers(settings: Settings) -> dict[str, str]:
    """The key that a server may ask for. Raises CommandError for one that no header can hold."""
    key = settings.environ.get("OLLAMA_API_KEY", "").strip()
    if not (key.isascii() and key.isprintable()):
        raise CommandError("OLLAMA_API_KEY must be printable ASCII")
    return {"authorization": f"Bearer {key}"} if key else {}


def _tls(settings: Settings) -> ssl.SSLContext | bool:
    return system_tls() if settings.address.scheme == "https" else False


def _check(response: httpx.Response) -> None:
    if response.is_error:
        raise ResponseError(response.text, response.status_code)


@contextmanager
def connect(settings: Settings | None = None) -> Iterator[Client]:
    """A client for one command; what it raises inside becomes a CommandError."""
    settings = settings or Settings.from_env()
    for warning in settings.warnings:
        if "OLLAMA_HOST" in warning:  # what else there is matters to the server
            print(f"Warning: {warning}", file=sys.stderr)
    with Client(settings) as client, client.explained():
        yield client
