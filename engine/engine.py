"""The façade: everything that the server can ask of models.

A request goes the same way whatever dialect it came in: find the model, check what it can do, settle the options,
wait for a process that has it loaded, render, generate, read thinking and tool calls out of the text.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass

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
from engine.chat.grammar.constraint import Constraint
from engine.chat.jinja.service import TemplateService
from engine.chat.output import ParseContext
from engine.constraints import Constraints
from engine.embeddings import embed
from engine.errors import EngineStopped, RunnerDied
from engine.generation import Generation, build_submit
from engine.grammar_check import GrammarValidator
from engine.loading.derivations import RepackCache
from engine.loading.load_options import default_context, load_spec
from engine.loading.loaded_names import LoadedNames
from engine.loading.pool import PoolConfig, RunnerPool
from engine.loading.process import RunnerProcess
from engine.model import Model, Models
from engine.prompting import Job, Prompted, answer_format, checked, offered_tools, prompted, without_eyes
from registry.logfields import TRACE, fields
from registry.storage.store import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineConfig(PoolConfig):
    """`context_length` in tokens is what a request gets that does not ask; 0: by the memory of the GPUs.

    `go_templates` prefers (True) or forbids (False) the Go templates that models store.
    """

    context_length: int = 0
    go_templates: bool | None = None


log = logging.getLogger("pronk.engine")


class Engine:
    """Runs models. Owned by the event loop; `start` before and `stop` after all else.

    All that takes a request raises EngineError, OptionError, and what reading a model raises.
    """

    def __init__(self, store: Store, config: EngineConfig) -> None:
        self.store = store
        self.models = Models(store, config.go_templates)
        self._config = config
        self._pool = RunnerPool(config)
        self._repack_cache = RepackCache(store, config.environ)
        self._constraints = Constraints()
        self._validator = GrammarValidator(config.environ)
        self._templates = TemplateService(config.environ)
        self._names = LoadedNames(store, self._pool)

    async def start(self) -> None:
        """Get ready to load."""
        await self._pool.start()
        self._names.start()

    async def stop(self) -> None:
        """End all processes. Answers that run end with EngineStopped, and so does what comes later."""
        await self._names.stop()
        self._constraints.close()
        await self._validator.close()
        await self._templates.close()
        await self._repack_cache.close()
        await self._pool.stop()

    def running(self) -> list[RunningModel]:
        """The loaded models."""
        return self._names.current(self._pool.running())

    async def load(self, request: AnyRequest) -> None:
        """Have the model loaded as this request needs it, after all checks of it, and answer nothing."""
        job = await self._job(request)
        async with self._loaded(job, embeds=False):
            pass

    async def unload(self, name: str) -> None:
        """Let a model go once nothing runs in it. One that comes with the program is not stored for this."""
        model = await asyncio.to_thread(self._find, name, install=False)
        self._pool.expire(str(model.weights))

    async def render(self, request: GenerateRequest | ChatRequest) -> Rendered:
        """The prompt that `generate` or `chat` would run."""
        async with self._prompted(request) as (_, prompted, _):
            return Rendered(prompted.prompt.text, len(prompted.prompt.images))

    def generate(self, request: GenerateRequest) -> AsyncGenerator[Event, None]:
        """Complete a prompt: pieces of the answer, then a Final."""
        return self._answer(request)

    def chat(self, request: ChatRequest) -> AsyncGenerator[Event, None]:
        """Continue a conversation: pieces of the answer, then a Final."""
        return self._answer(request)

    async def embed(self, request: EmbedRequest) -> Embeddings:
        """The vectors of texts."""
        job = await self._job(request)
        async with self._loaded(job, embeds=True) as process:
            load_duration = time.perf_counter_ns() - job.started
            with self._telling_a_stop():
                vectors, tokens = await embed(process, job.model, request, job.options, job.num_ctx)
        seconds = (time.perf_counter_ns() - job.started) / 1e9
        values = {"texts": len(request.texts), "tokens": tokens, "seconds": seconds}
        log.info("embedded", extra=fields(model=job.model.name.shortest, **values))
        return Embeddings(vectors=vectors, prompt_eval_count=tokens, load_duration=load_duration)

    async def _answer(self, request: GenerateRequest | ChatRequest) -> AsyncGenerator[Event, None]:
        async with self._prompted(request) as (job, prompted, process):
            prompt, reader, grammar = prompted.prompt, prompted.reader, prompted.grammar
            if prompt.images:
                raise without_eyes(job)
            generation = Generation(process, job.model.name.shortest, job.started)
            assert process.loaded is not None
            submit = build_submit(job.model, request, job.options, job.num_ctx, prompt, process.loaded, grammar)
            with self._telling_a_stop():
                async with aclosing(generation.deltas(submit, prompt, reader)) as deltas:
                    async for delta in deltas:
                        yield delta
                shows_context = isinstance(request, GenerateRequest) and not request.raw
                context = await process.tokenize(prompt.text + generation.text) if shows_context else None
            yield generation.final(context)

    @asynccontextmanager
    async def _prompted(
        self, request: GenerateRequest | ChatRequest
    ) -> AsyncIterator[tuple[Job, Prompted, RunnerProcess]]:
        """A request with its prompt, and a process that can answer it, for as long as the context lasts."""
        job = await self._job(request)
        constraint = await self._constraint(job.model, request)
        async with self._loaded(job, embeds=False) as process:
            started = time.perf_counter()
            made = await prompted(job, request, constraint, process, self._templates)
            milliseconds = (time.perf_counter() - started) * 1e3
            log.debug("prompt made", extra=fields(characters=len(made.prompt.text), ms=milliseconds))
            if log.isEnabledFor(TRACE):
                log.log(TRACE, "prompt", extra=fields(prompt=made.prompt.text))
            yield job, made, process

    async def _job(self, request: AnyRequest) -> Job:
        """A request's model and options, checked in a thread."""
        started = time.perf_counter_ns()
        default = default_context(self._config.context_length, self._pool.gpus, self._config.gpu_overhead)

        def find_and_check() -> Job:
            return checked(self._find(request.model, install=True), request, default, started)

        job = await asyncio.to_thread(find_and_check)
        values = {"kind": type(request).__name__, "model": job.model.name.shortest, "context": job.num_ctx}
        log.debug("request checked", extra=fields(**values, ms=(time.perf_counter_ns() - started) / 1e6))
        return job

    def _find(self, name: str, *, install: bool) -> Model:
        """The model under a name, with all that its prompts need read here and not on the event loop."""
        model = self.models.resolve(name, install=install)
        _ = model.capabilities, model.layout
        return model

    async def _constraint(self, model: Model, request: GenerateRequest | ChatRequest) -> Constraint | None:
        """What the answer is held to, once its grammar is known to be harmless. Raises InvalidRequest."""
        output_format = answer_format(model, request)
        if isinstance(request, ChatRequest):
            constraint = await self._constraints.chat(request, offered_tools(request), output_format)
        elif request.format is not None:
            constraint = await self._constraints.content(request.format, output_format)
        else:
            return None
        if constraint is not None:
            await self._validator.check(constraint.grammar(ParseContext()), constraint.what)
        return constraint

    @asynccontextmanager
    async def _loaded(self, job: Job, *, embeds: bool) -> AsyncIterator[RunnerProcess]:
        """A process that has loaded a job's model, for as long as the context lasts."""
        model = job.model
        if model.route.uses_embedded_template and not embeds:
            self._templates.warm()
        weights = await self._repack_cache.weights(model)
        spec = load_spec(model, job.options, job.num_ctx, len(self._pool.gpus))
        async with self._pool.lease(model, weights, spec, job.request.keep_alive, embeds=embeds) as process:
            self._names.loaded(model)
            yield process

    @contextmanager
    def _telling_a_stop(self) -> Iterator[None]:
        """A process that ends because the engine stops has not died; of others all is told that is known."""
        try:
            yield
        except RunnerDied as error:
            if self._pool.stopping:
                raise EngineStopped from None
            raise self._pool.explained(error) from None
