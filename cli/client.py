"""The way to the server: the official client, at the address that OLLAMA_HOST names."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import ollama
from ollama import ResponseError

from cli.errors import CommandError
from server.hosts import is_loopback
from server.settings import Settings

MISSING = 404


class Description(ollama.ShowResponse):
    """What the server knows about a model, with the fields that the official client leaves out."""

    system: str = ""
    tensors: tuple[dict[str, Any], ...] = ()


class Client(ollama.Client):
    """The official client at the address of some settings; raises ResponseError, ConnectionError or httpx's errors."""

    def __init__(self, settings: Settings) -> None:
        self.url = settings.client_url
        # A proxy of the environment is not meant for this machine itself.
        super().__init__(self.url, trust_env=not is_loopback(settings.address.host))

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
        except httpx.TransportError as error:
            raise CommandError(f"lost the connection to {self.url}: {error}") from None
        except json.JSONDecodeError:
            raise CommandError(f"what answers at {self.url} is no Ollama server") from None


def _check(response: httpx.Response) -> None:
    if response.is_error:
        raise ResponseError(response.text, response.status_code)


@contextmanager
def connect(settings: Settings | None = None) -> Iterator[Client]:
    """A client for one command; what it raises inside becomes a CommandError."""
    with Client(settings or Settings.from_env()) as client, client.explained():
        yield client
