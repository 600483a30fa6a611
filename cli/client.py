"""The official Ollama client, connected to the server that OLLAMA_HOST names."""

from __future__ import annotations

import json
import ssl
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
from pydantic import ValidationError
from socksio import ProtocolError

from cli.arguments import CommandError
from registry.remote.connections import system_tls
from registry.remote.proxies import Proxies, UnusableProxy
from server.http.hosts import is_loopback
from server.settings import Settings, without_environment

with without_environment():  # importing it creates a client from the environment, which may be unusable
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
# What the library raises when it reads an answer that is no JSON, or JSON of another shape.
_UNREADABLE = (json.JSONDecodeError, UnicodeDecodeError, ValidationError, AttributeError, TypeError)


class Description(ollama.ShowResponse):
    """The answer of `/api/show`, with the fields that the official client leaves out."""

    system: str = ""
    tensors: tuple[dict[str, Any], ...] = ()
    projector_info: dict[str, Any] | None = None


class Client(ollama.Client):
    """The official client for the address in `settings`. Methods raise ResponseError, ConnectionError or httpx's own.

    Raises CommandError for an address, a key or a proxy that cannot be used, and for an answer that is not Ollama's.
    """

    def __init__(self, settings: Settings) -> None:
        self.url = settings.client_url
        try:
            settings.address.client_host.encode("idna")
            # The library must not read the environment itself: it would use a proxy for this machine, too.
            with without_environment():
                super().__init__(
                    self.url, headers=_headers(settings), trust_env=False, proxy=_proxy(settings), verify=_tls(settings)
                )
        except (ValueError, httpx.InvalidURL):
            raise CommandError(f"OLLAMA_HOST is no address of a server: {self.url}") from None

    def get(self, path: str, timeout: float) -> httpx.Response:
        """The response to GET, whatever its status. `timeout` is in seconds."""
        response: httpx.Response = self._client.get(path, timeout=timeout)
        return response

    def describe(self, model: str, *, verbose: bool = False) -> Description:
        """What `/api/show` says about a model; `verbose` includes tensors and vocabulary."""
        body = {"model": model, "verbose": verbose}
        described: Description = self._request(Description, "POST", "/api/show", json=body)
        return described

    def plan(self, model: str, options: dict[str, Any]) -> dict[str, Any]:
        """What `/api/plan` says: where a model would go, and what it would take."""
        response: httpx.Response = self._request_raw(  # type: ignore[no-untyped-call]
            "POST", "/api/plan", json={"model": model, "options": options}
        )
        try:
            answer = response.json()
        except ValueError:
            raise self._foreign() from None
        if not isinstance(answer, dict) or "devices" not in answer:
            raise self._foreign()
        return answer

    def has_blob(self, digest: str) -> bool:
        """Whether the server has this blob."""
        response = self._client.head(f"/api/blobs/{digest}")
        if response.status_code == MISSING:
            return False
        _check(response)
        return True

    def send_blob(self, digest: str, content: Iterable[bytes]) -> None:
        """Upload a blob, streamed."""
        _check(self._client.post(f"/api/blobs/{digest}", content=content))

    def make(self, request: dict[str, Any]) -> Iterator[ollama.ProgressResponse]:
        """Stream `/api/create` with any request body: the official client does not know every field."""
        steps: Iterator[ProgressResponse] = self._request(
            ProgressResponse, "POST", "/api/create", json=request, stream=True
        )
        return steps

    def copy(self, source: str, destination: str) -> ollama.StatusResponse:
        """Give a model a second name."""
        body = {"source": source, "destination": destination}
        response: httpx.Response = self._request_raw("POST", "/api/copy", json=body)  # type: ignore[no-untyped-call]
        if response.content:  # Ollama's is empty
            raise self._foreign()
        return ollama.StatusResponse(status="success")

    def _request(self, cls: Any, *args: Any, stream: bool = False, **kwargs: Any) -> Any:
        """The answer as a `cls`, or an iterator of them. Every call of the library with an answer comes here."""
        try:
            answer = super()._request(cls, *args, stream=stream, **kwargs)
        except _UNREADABLE:
            raise self._foreign() from None
        return self._parts(answer) if stream else self._own(answer)

    def _parts(self, answers: Iterator[Any]) -> Iterator[Any]:
        try:
            yield from map(self._own, answers)
        except _UNREADABLE:
            raise self._foreign() from None

    def _own(self, answer: Any) -> Any:
        """The answer itself. Raises CommandError if it lacks what Ollama always sends, though the library does not."""
        if isinstance(answer, GenerateResponse | ChatResponse) and answer.done is None:
            raise self._foreign()
        if isinstance(answer, ProgressResponse) and answer.status is None:
            raise self._foreign()
        return answer

    def _foreign(self) -> CommandError:
        return CommandError(f"what answers at {self.url} is no Ollama server")

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Turn errors of calls into a CommandError that tells the user what to do."""
        try:
            yield
        except ResponseError as error:
            raise CommandError(error.error) from None
        except BrokenPipeError:  # a ConnectionError, but of standard output
            raise
        except (ConnectionError, httpx.ConnectError):
            hint = "is the server running? start it with: pronk serve"
            raise CommandError(f"could not connect to {self.url}, {hint}") from None
        except (httpx.TransportError, ProtocolError) as error:  # ProtocolError: the proxy does not speak SOCKS
            raise CommandError(f"lost the connection to {self.url}: {error}") from None
        except httpx.RequestError:  # redirects without end, or a broken encoding
            raise self._foreign() from None


def _proxy(settings: Settings) -> httpx.Proxy | None:
    """The proxy for the server's address, None without one. Raises CommandError if it is needed and unusable."""
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
    """The `Authorization` header with OLLAMA_API_KEY. Raises CommandError if the key cannot stand in a header."""
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
    """A client for one command; errors raised inside become a CommandError."""
    settings = settings or Settings.from_env()
    for warning in settings.warnings:
        if "OLLAMA_HOST" in warning:  # the other warnings concern the server
            print(f"Warning: {warning}", file=sys.stderr)
    with Client(settings) as client, client.explained():
        yield client
