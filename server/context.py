"""EngineSurface, and accessors for the engine, the models and the settings of a request's application.

The engine takes and gives plain data, so an engine in another process can implement the surface. The store is not
behind it: the server reads and changes the models folder itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Protocol

from prometheus_client.core import Metric
from starlette.requests import Request

from engine.api import (
    AnyRequest,
    ChatRequest,
    Detokenized,
    DetokenizeRequest,
    Embeddings,
    EmbedRequest,
    Event,
    GenerateRequest,
    LoadingModel,
    LoadPlan,
    PlanRequest,
    Progress,
    Ranked,
    Rendered,
    RerankRequest,
    RunningModel,
    Tokenized,
    TokenizeRequest,
)
from engine.model import Model, Models
from registry.names import ModelName
from registry.storage.store import Store
from server.http.errors import HTTPError
from server.http.hosts import is_loopback
from server.metrics import ServerMetrics
from server.settings import Settings
from server.transfers import Transfers


class EngineSurface(Protocol):
    """The methods of the engine that routes use. Those that run a model raise EngineError."""

    async def start(self) -> None:
        """Start. Called once, before the first request."""

    async def stop(self) -> None:
        """End all answers and child processes. Later calls raise EngineStopped."""

    def generate(self, request: GenerateRequest) -> AsyncIterator[Event]:
        """The events of a completion: deltas, then one Final. Closing the iterator cancels it.

        A request for `progress` has that first.
        """

    def chat(self, request: ChatRequest) -> AsyncIterator[Event]:
        """The events of the assistant's next message, as in `generate`."""

    async def load(self, request: AnyRequest) -> None:
        """Load the model with the request's options."""

    def load_with_progress(self, request: AnyRequest) -> AsyncIterator[Progress]:
        """The same, and tell how far that is. Closing the iterator cancels it."""

    async def unload(self, name: str) -> None:
        """Unload a model once its running requests have ended."""

    async def render(self, request: GenerateRequest | ChatRequest) -> Rendered:
        """The prompt that `generate` or `chat` would run."""

    async def embed(self, request: EmbedRequest) -> Embeddings:
        """One vector for each text."""

    async def rerank(self, request: RerankRequest) -> Ranked:
        """How well each of a request's documents answers its query."""

    async def tokenize(self, request: TokenizeRequest) -> Tokenized:
        """The tokens of a text."""

    async def detokenize(self, request: DetokenizeRequest) -> Detokenized:
        """The text of tokens. Raises InvalidRequest, which names the place, for a number that is no token."""

    async def plan(self, request: PlanRequest) -> LoadPlan:
        """What a load would take; nothing is loaded."""

    def unready(self) -> str:
        """Why no model can be run, in a line for clients; "" if models can."""
        ...

    async def metrics(self) -> list[Metric]:
        """What the engine has done and does, for Prometheus."""
        ...

    def loading(self) -> list[LoadingModel]:
        """The models that are being loaded."""
        ...

    def running(self) -> list[RunningModel]:
        """The loaded models."""


def engine_of(request: Request) -> EngineSurface:
    """The engine of this request's application."""
    engine: EngineSurface = request.app.state.engine
    return engine


def models_of(request: Request) -> Models:
    """The stored models of this request's application."""
    models: Models = request.app.state.models
    return models


def store_of(request: Request) -> Store:
    """The store of the models."""
    return models_of(request).store


async def find_model(request: Request, name: str) -> Model:
    """The stored model of this name, read in a thread. Raises what `Models.resolve` raises."""
    return await asyncio.to_thread(models_of(request).resolve, name)


def model_or_loaded(engine: EngineSurface, name: str) -> str:
    """The model's name as it was sent, else that of the only loaded model. Raises HTTPError if there is none such."""
    if name.strip():
        return name
    loaded = engine.running()
    if len(loaded) != 1:
        raise HTTPError(f"model is required: {len(loaded) or 'no'} models are loaded", "model")
    return ModelName.parse(loaded[0].name).shortest


def shares_files(request: Request) -> bool:
    """Whether the client may name this machine's files, and be told where they are: it is on this machine."""
    is_here = request.client is not None and is_loopback(request.client.host)
    return is_here and settings_of(request).local_paths


def settings_of(request: Request) -> Settings:
    """The settings of this request's application."""
    settings: Settings = request.app.state.settings
    return settings


def metrics_of(request: Request) -> ServerMetrics:
    """The metrics of this request's application."""
    metrics: ServerMetrics = request.app.state.metrics
    return metrics


def transfers_of(request: Request) -> Transfers:
    """The pulls and pushes of this request's application."""
    transfers: Transfers = request.app.state.transfers
    return transfers
