"""An engine with a script instead of a model: the store and the models are real, only the answers are made up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

from engine.api import AnyRequest, ChatRequest, Embeddings, EmbedRequest, Event, GenerateRequest, Rendered, RunningModel
from engine.model import Models
from registry.storage.store import Store

Step = Event | Embeddings | Rendered | BaseException | float
"""An event, vectors or a prompt to give, an error to raise, or seconds to wait."""


class FakeEngine:
    """Plays `script` for every request. What it was asked, and how many answers were not read to the end, is kept."""

    def __init__(self, root: Path, script: Sequence[Step] = ()) -> None:
        self.store = Store(root)
        self.models = Models(self.store)
        self.script = list(script)
        self.asked: list[AnyRequest] = []
        self.unloaded: list[str] = []
        self.loaded: list[RunningModel] = []
        self.abandoned = 0
        self.started = self.stopped = 0
        self.stopping: asyncio.Event | None = None

    async def start(self) -> None:
        self.started += 1

    async def stop(self) -> None:
        self.stopped += 1

    def generate(self, request: GenerateRequest) -> AsyncIterator[Event]:
        return self._play(request)

    def chat(self, request: ChatRequest) -> AsyncIterator[Event]:
        return self._play(request)

    async def load(self, request: AnyRequest) -> None:
        async for _ in self._play(request):
            pass

    async def unload(self, name: str) -> None:
        self.unloaded.append(name)

    async def render(self, request: GenerateRequest | ChatRequest) -> Rendered:
        async for found in self._play(request):
            assert isinstance(found, Rendered)
            return found
        raise AssertionError("the script has no prompt")

    async def embed(self, request: EmbedRequest) -> Embeddings:
        async for found in self._play(request):
            assert isinstance(found, Embeddings)
            return found
        raise AssertionError("the script has no vectors")

    def running(self) -> list[RunningModel]:
        return self.loaded

    async def _play(self, request: AnyRequest) -> AsyncIterator[Any]:
        self.asked.append(request)
        complete = False
        try:
            for step in self.script:
                if isinstance(step, BaseException):
                    complete = True
                    raise step
                if isinstance(step, float):
                    await asyncio.sleep(step)
                else:
                    complete = step is self.script[-1]
                    yield step
        finally:
            self.abandoned += not complete
