"""The server's API, as far as the command line uses it."""

from __future__ import annotations

import json
import sys
from base64 import b64encode
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from cli.arguments import CommandError
from cli.connection import Broken, Connections, Unreachable, reading
from cli.reply import Foreign, Reply
from cli.response import Response
from server.settings import Settings

MISSING = 404
_NO_KEY = 401
_FAILED = 400  # the first status of an error
_REDIRECTED = 300
_VERSION_TIMEOUT = 5.0  # seconds


class ResponseError(Exception):
    """The server answered with an error; `status` is -1 for one in the middle of a stream."""

    def __init__(self, error: str, status: int = -1) -> None:
        super().__init__(error)
        self.error = error
        self.status = status


class Client:
    """Calls the server that `settings` name.

    Methods raise ResponseError, Foreign or a Failure, which `explained` turns into a CommandError for the user; the
    constructor raises CommandError for an address, a key or a proxy that cannot be used.
    """

    def __init__(self, settings: Settings) -> None:
        self._connections = Connections(settings)
        self.url = self._connections.url

    def version(self, timeout: float = _VERSION_TIMEOUT) -> str:
        """The server's version; `timeout` is in seconds."""
        return self._call("GET", "/api/version", timeout=timeout).require("version").text("version")

    def models(self, timeout: float | None = None) -> list[Reply]:
        """The stored models."""
        return self._call("GET", "/api/tags", timeout=timeout).require("models").objects("models")

    def loaded(self, timeout: float | None = None) -> list[Reply]:
        """The loaded models."""
        return self._call("GET", "/api/ps", timeout=timeout).require("models").objects("models")

    def describe(self, model: str, *, verbose: bool = False) -> Reply:
        """What `/api/show` says about a model; `verbose` includes tensors and vocabulary."""
        return self._call("POST", "/api/show", {"model": model, "verbose": verbose}).require("model_info")

    def plan(self, model: str, options: dict[str, Any]) -> Reply:
        """What `/api/plan` says: where a model would go, and what it would take."""
        return self._call("POST", "/api/plan", {"model": model, "options": options}).require("devices")

    def load(self, model: str, **fields: Any) -> Iterator[Reply]:
        """Load a model, and stream how far that is; `fields` that are None are left out."""
        return self._stream("/api/generate", {"model": model, **fields}, "done", _is_done)

    def unload(self, model: str) -> None:
        """Unload a model."""
        self._call("POST", "/api/generate", {"model": model, "keep_alive": 0, "stream": False}).require("done")

    def generate(self, model: str, prompt: str, images: list[bytes], **fields: Any) -> Iterator[Reply]:
        """Stream the answer to a prompt; `fields` that are None are left out."""
        body = {"model": model, "prompt": prompt, "images": _base64(images) or None, **fields}
        return self._stream("/api/generate", body, "done", _is_done)

    def chat(self, model: str, messages: list[dict[str, Any]], **fields: Any) -> Iterator[Reply]:
        """Stream the next message; the images of `messages` are bytes. `fields` that are None are left out."""
        sent = [
            message | {"images": _base64(message["images"])} if "images" in message else message for message in messages
        ]
        return self._stream("/api/chat", {"model": model, "messages": sent, **fields}, "done", _is_done)

    def embed(self, model: str, texts: list[str], **fields: Any) -> list[list[float]]:
        """The vectors of texts."""
        reply = self._call("POST", "/api/embed", {"model": model, "input": texts, **fields})
        vectors = reply.require("embeddings").fields["embeddings"]
        if not (isinstance(vectors, list) and all(isinstance(vector, list) for vector in vectors)):
            raise Foreign
        return vectors

    def pull(self, model: str, *, insecure: bool) -> Iterator[Reply]:
        """The steps of a pull."""
        return self._stream("/api/pull", {"model": model, "insecure": insecure}, "status", _is_success)

    def push(self, model: str, *, insecure: bool) -> Iterator[Reply]:
        """The steps of a push."""
        return self._stream("/api/push", {"model": model, "insecure": insecure}, "status", _is_success)

    def make(self, request: dict[str, Any]) -> Iterator[Reply]:
        """The steps of `/api/create`."""
        return self._stream("/api/create", request, "status", _is_success)

    def copy(self, source: str, destination: str) -> None:
        """Give a model a second name."""
        self._call_without_answer("POST", "/api/copy", {"source": source, "destination": destination})

    def delete(self, model: str) -> None:
        """Delete a model."""
        self._call_without_answer("DELETE", "/api/delete", {"model": model})

    def has_blob(self, digest: str) -> bool:
        """Whether the server has this blob."""
        try:
            self._exchange("HEAD", f"/api/blobs/{digest}")
        except ResponseError as error:
            if error.status == MISSING:
                return False
            raise
        return True

    def send_blob(self, digest: str, pieces: Iterable[bytes], size: int) -> None:
        """Upload a blob, streamed."""
        with self._connections.request("POST", f"/api/blobs/{digest}", pieces, size=size) as response:
            _whole(response)

    def _call(
        self, method: str, path: str, body: dict[str, Any] | None = None, *, timeout: float | None = None
    ) -> Reply:
        return Reply.parse(self._exchange(method, path, body, timeout=timeout))

    def _call_without_answer(self, method: str, path: str, body: dict[str, Any]) -> None:
        if self._exchange(method, path, body):  # Ollama's is empty
            raise Foreign

    def _exchange(
        self, method: str, path: str, body: dict[str, Any] | None = None, *, timeout: float | None = None
    ) -> bytes:
        with self._connections.request(method, path, _encoded(body), timeout=timeout) as response:
            return _whole(response)

    def _stream(
        self, path: str, body: dict[str, Any], required: str, is_last: Callable[[Reply], bool]
    ) -> Iterator[Reply]:
        """The lines of an answer; each must have the `required` field. One that ends before the last line is Broken."""
        complete = False
        with self._connections.request("POST", path, _encoded(body | {"stream": True})) as response:
            if response.status >= _REDIRECTED:
                _whole(response)
            while True:
                with reading():
                    line = response.readline()
                if not line:
                    break
                if line.strip():
                    reply = Reply.parse(line)
                    if "error" in reply.fields:
                        raise ResponseError(_message(reply) or "the server failed")
                    complete = is_last(reply)
                    yield reply.require(required)
            if not complete:
                raise Broken("the answer ended in the middle")

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Turn errors of calls into a CommandError that tells the user what to do."""
        try:
            yield
        except ResponseError as error:
            hint = "; set OLLAMA_API_KEY to one of the server's keys" if error.status == _NO_KEY else ""
            raise CommandError(error.error + hint) from None
        except Foreign:
            raise CommandError(f"what answers at {self.url} is no Ollama server") from None
        except Unreachable as error:
            hint = "is the server running? start it with: pronk serve" if error.refused else str(error)
            raise CommandError(f"could not connect to {self.url}, {hint}") from None
        except Broken as error:
            raise CommandError(f"lost the connection to {self.url}: {error}") from None


def _encoded(body: dict[str, Any] | None) -> bytes:
    if body is None:
        return b""
    return json.dumps({name: value for name, value in body.items() if value is not None}).encode()


def _base64(images: Iterable[bytes]) -> list[str]:
    return [b64encode(image).decode() for image in images]


def _is_done(reply: Reply) -> bool:
    return reply.flag("done")


def _is_success(reply: Reply) -> bool:
    return reply.text("status") == "success"


def _whole(response: Response) -> bytes:
    """The body. Raises ResponseError for a status that is no success."""
    with reading():
        data = response.read()
    if response.status < _REDIRECTED:
        return data
    try:
        message = _message(Reply.parse(data))
    except Foreign:
        message = ""
    if response.status < _FAILED:
        target = response.headers.get("location", "another address").partition("/api/")[0]
        message = f"the server is elsewhere: set OLLAMA_HOST to {target}"
    raise ResponseError(message or f"the server answers {response.status} {response.reason}".rstrip(), response.status)


def _message(reply: Reply) -> str:
    """The text of an error, in any dialect."""
    error = reply.fields.get("error")
    if isinstance(error, dict):
        error = error.get("message")
    return error if isinstance(error, str) else ""


@contextmanager
def connect(settings: Settings | None = None) -> Iterator[Client]:
    """A client for one command; errors raised inside become a CommandError."""
    settings = settings or Settings.from_env()
    for warning in settings.warnings:
        if "OLLAMA_HOST" in warning:  # the other warnings concern the server
            print(f"Warning: {warning}", file=sys.stderr)
    client = Client(settings)
    with client.explained():
        yield client
