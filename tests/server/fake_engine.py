"""An engine with a script instead of a model: the store and the models are real, only the answers are made up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from prometheus_client.core import Metric

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
from engine.model import Models
from registry.storage.store import Store

Result = Embeddings | Ranked | Rendered | Tokenized | Detokenized | LoadPlan
Step = Event | Result | BaseException | float
"""An event or a result to give, an error to raise, or seconds to wait."""
R = TypeVar("R", bound=Result)


class FakeEngine:
    """Plays `script` for every request, or one of `scripts` after the other. Keeps what it was asked, and how many
    answers were not read to the end."""

    def __init__(self, root: Path, script: Sequence[Step] = ()) -> None:
        self.store = Store(root)
        self.models = Models(self.store)
        self.script = list(script)
        self.scripts: list[Sequence[Step]] = []
        self.asked: list[AnyRequest] = []
        self.unloaded: list[str] = []
        self.loaded: list[RunningModel] = []
        self.being_loaded: list[LoadingModel] = []
        self.abandoned = 0
        self.fault = ""
        self.started = self.stopped = 0
        self.stopping: asyncio.Event | None = None

    async def start(self) -> None:
        self.started += 1

    def unready(self) -> str:
        return self.fault

    async def metrics(self) -> list[Metric]:
        return []

    async def stop(self) -> None:
        self.stopped += 1

    def generate(self, request: GenerateRequest) -> AsyncIterator[Event]:
        return self._play(request)

    def chat(self, request: ChatRequest) -> AsyncIterator[Event]:
        return self._play(request)

    async def load(self, request: AnyRequest) -> None:
        async for _ in self._play(request):
            pass

    async def load_with_progress(self, request: AnyRequest) -> AsyncIterator[Progress]:
        async for event in self._play(request):
            if isinstance(event, Progress):
                yield event

    async def unload(self, name: str) -> None:
        self.unloaded.append(name)

    async def render(self, request: GenerateRequest | ChatRequest) -> Rendered:
        return await self._result(request, Rendered)

    async def embed(self, request: EmbedRequest) -> Embeddings:
        return await self._result(request, Embeddings)

    async def rerank(self, request: RerankRequest) -> Ranked:
        return await self._result(request, Ranked)

    async def tokenize(self, request: TokenizeRequest) -> Tokenized:
        return await self._result(request, Tokenized)

    async def detokenize(self, request: DetokenizeRequest) -> Detokenized:
        return await self._result(request, Detokenized)

    async def plan(self, request: PlanRequest) -> LoadPlan:
        return await self._result(request, LoadPlan)

    def loading(self) -> list[LoadingModel]:
        return self.being_loaded

    def running(self) -> list[RunningModel]:
        return self.loaded

    async def _result(self, request: AnyRequest, kind: type[R]) -> R:
        """The first result of this kind in the script; a script may have results of several kinds."""
        async for found in self._play(request):
            if isinstance(found, kind):
                return found
        raise AssertionError(f"the script has no {kind.__name__}")

    async def _play(self, request: AnyRequest) -> AsyncIterator[Any]:
        self.asked.append(request)
        complete = False
        script = self.scripts.pop(0) if self.scripts else self.script
        try:
            for step in script:
                if isinstance(step, BaseException):
                    complete = True
                    raise step
                if isinstance(step, float):
                    await asyncio.sleep(step)
                else:
                    complete = step is script[-1]
                    yield step
        finally:
            self.abandoned += not complete
