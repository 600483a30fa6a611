"""Servers to compare: which API they speak, and which of the bench's models they have."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from bench.api import Api
from bench.client import Client
from bench.dialects import LLAMA_SERVER, OLLAMA, Dialect
from bench.figures import OURS
from bench.models import BenchModel
from bench.processes import ServerProcesses, listening_at
from bench.serving import LocalServer

ENCODED = "media encoded"  # in the log of our server, at the level DEBUG


class UnknownServer(RuntimeError):
    """A server speaks no API that the bench knows, or has none of its models."""


@dataclass(frozen=True, slots=True)
class Target:
    """One model on one server.

    `api` is None where models are not unloaded on request, `processes` where the server is on another machine.
    `encodes` counts the pictures that were encoded so far, where the server tells.
    """

    label: str
    model: str
    client: Client
    api: Api | None
    processes: ServerProcesses | None
    encodes: Callable[[], int] | None = None

    def unload(self) -> None:
        """Free the model, where the server does that. Raises httpx.HTTPError or TimeoutError."""
        if self.api is not None:
            self.api.unload(self.model)


@dataclass(frozen=True, slots=True)
class Server:
    """A server at `url`, and how to ask it. `models` are the names of those that it has, if it makes no others."""

    url: str
    label: str
    version: str
    dialect: Dialect
    processes: ServerProcesses | None
    models: tuple[str, ...] | None = None

    @property
    def api(self) -> Api | None:
        """Where models are made and unloaded; None if the server only has what it was started with."""
        return Api(self.url) if self.models is None else None

    def target(self, model: BenchModel) -> Target | None:
        """A model on this server; None if it does not have it."""
        name = model.name if self.models is None else _among(self.models, model)
        if name is None:
            return None
        return Target(self.label, name, Client(self.url, name, self.dialect), self.api, self.processes)


def our_target(server: LocalServer, model: BenchModel) -> Target:
    """A model on our own server."""
    log = server.log
    encodes = None if log is None else lambda: log.read_text(errors="replace").count(ENCODED)
    return Target(OURS, model.name, Client(server.url, model.name), Api(server.url), server.processes, encodes)


def find_server(url: str) -> Server:
    """The server at `url`. Raises UnknownServer or httpx.HTTPError."""
    with httpx.Client(base_url=url) as http:
        answer = http.get("/api/version")
        if answer.is_success:
            return Server(url, OLLAMA.name, answer.json()["version"], OLLAMA, listening_at(url))
        answer = http.get("/v1/models")
        if not answer.is_success:
            raise UnknownServer(f"{url} has neither /api/version nor /v1/models")
        names = tuple(str(model["id"]) for model in answer.json()["data"])
        version = str(http.get("/props").json().get("build_info", ""))
    return Server(url, LLAMA_SERVER.name, version, LLAMA_SERVER, listening_at(url), names)


def find_servers(urls: Sequence[str]) -> list[Server]:
    """The servers at `urls`; the port tells those apart that are of one kind and have a model in common.

    Raises UnknownServer or httpx.HTTPError.
    """
    servers = [find_server(url) for url in urls]
    return [
        replace(server, label=f"{server.label} :{urlsplit(server.url).port}")
        if any(_overlap(server, other) for other in servers if other is not server)
        else server
        for server in servers
    ]


def _overlap(a: Server, b: Server) -> bool:
    return a.label == b.label and (a.models is None or b.models is None or not set(a.models).isdisjoint(b.models))


def _among(names: tuple[str, ...], model: BenchModel) -> str | None:
    """The server's name of a model: ours, or that of its file, with or without folder and suffix."""
    known = {model.name, model.gguf.name, model.gguf.stem}
    return next((name for name in names if name in known or Path(name).name in known), None)
