"""What the routes need of the rest: what the application was made with.

The engine is what runs; plain data goes in and comes out, so that one in another process can stand behind the same
methods. What is stored is no matter of the engine: the server reads and changes the folder of models itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Protocol

from starlette.requests import Request

from engine.api import (
    AnyRequest,
    ChatRequest,
    Embeddings,
    EmbedRequest,
    Event,
    GenerateRequest,
    Rendered,
    RunningModel,
)
from engine.model import Model, Models
from registry.storage.store import Store
from server.settings import Settings
from server.transfers import Transfers


class EngineSurface(Protocol):
    """The part of the engine that the HTTP layer uses."""

    async def start(self) -> None:
        """Get ready; called once, before the first request."""

    async def stop(self) -> None:
        """End everything that runs; what is asked from now on fails with EngineStopped."""

    def generate(self, request: GenerateRequest) -> AsyncIterator[Event]:
        """The events of one completion."""

    def chat(self, request: ChatRequest) -> AsyncIterator[Event]:
        """The events of one turn."""

    async def load(self, request: AnyRequest) -> None:
        """Load the model as this request needs it, and answer nothing."""

    async def unload(self, name: str) -> None:
        """Let a model go once nothing runs in it."""

    async def render(self, request: GenerateRequest | ChatRequest) -> Rendered:
        """The prompt that would be run."""

    async def embed(self, request: EmbedRequest) -> Embeddings:
        """The vectors of texts."""

    def running(self) -> list[RunningModel]:
        """The loaded models."""


def engine_of(request: Request) -> EngineSurface:
    """The engine of the application that serves this request."""
    engine: EngineSurface = request.app.state.engine
    return engine


def models_of(request: Request) -> Models:
    """The stored models of the application that serves this request."""
    models: Models = request.app.state.models
    return models


def store_of(request: Request) -> Store:
    """The folder that they are in."""
    return models_of(request).store


async def find_model(request: Request, name: str) -> Model:
    """The stored model under a name, read in a thread. Raises what `Models.resolve` raises."""
    return await asyncio.to_thread(models_of(request).resolve, name)


def settings_of(request: Request) -> Settings:
    """The settings of the application that serves this request."""
    settings: Settings = request.app.state.settings
    return settings


def transfers_of(request: Request) -> Transfers:
    """The way to registries of the application that serves this request."""
    transfers: Transfers = request.app.state.transfers
    return transfers
