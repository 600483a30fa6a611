"""The façade: everything that the server can ask of models.

Requests of all API dialects go the same way: find the model, check its capabilities and the options, compile the
grammar, wait for a process that has the model loaded, render the prompt, generate, parse thinking and tool calls.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from typing import TypeVar

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
    ModelLoading,
    PlanRequest,
    PreloadRequest,
    Progress,
    Ranked,
    Rendered,
    RerankRequest,
    RunningModel,
    Tokenized,
    TokenizeRequest,
)
from engine.chat.grammar.constraint import Constraint
from engine.chat.jinja.service import TemplateService
from engine.chat.output import Format
from engine.constraints import Constraints
from engine.embeddings import embed
from engine.errors import EngineError, EngineStopped, RunnerDied, ServerBusy
from engine.generation import Generation, LateGrammar, answer_room, build_submit, placed_media
from engine.grammar_check import GrammarValidator
from engine.loading.config import PoolConfig
from engine.loading.derivations import RepackCache
from engine.loading.lease import Lease
from engine.loading.load_options import default_context, load_spec
from engine.loading.loaded_names import LoadedNames
from engine.loading.pool import RunnerPool
from engine.messages import Grammar
from engine.metrics import EngineMetrics
from engine.model import Model, Models
from engine.progress import Watch, told_until, with_progress
from engine.prompting import (
    Job,
    PreparedPrompt,
    answer_format,
    check_media,
    check_request,
    chooses_calls,
    offered_tools,
    prepare_prompt,
)
from engine.rerank import rerank
from engine.second_chances import SecondChances
from engine.tokenization import detokenize, tokenize
from registry.logfields import TRACE, fields, tell_request
from registry.storage.store import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineConfig(PoolConfig):
    """Limits of the pool, and how requests are prepared.

    `context_length`: the default context in tokens, 0: by the GPUs' memory. `go_templates` prefers (True) or forbids
    (False) stored Go templates where the model's file has a chat template too.
    """

    context_length: int = 0
    go_templates: bool | None = None


T = TypeVar("T")
log = logging.getLogger("pronk.engine")


class Engine:
    """Runs models. Owned by the event loop; `start` before and `stop` after all else.

    Every method that takes a request raises EngineError, OptionError, and what `Models.resolve` raises.
    """

    def __init__(self, store: Store, config: EngineConfig) -> None:
        self.store = store
        self.models = Models(store, config.go_templates)
        self._config = config
        self._metrics = EngineMetrics()
        self._pool = RunnerPool(config, self._metrics)
        self._repack_cache = RepackCache(store, config.environ, config.watchdog)
        self._constraints = Constraints()
        self._validator = GrammarValidator(config.environ, config.watchdog)
        self._templates = TemplateService(config.environ, watchdog=config.watchdog)
        self._names = LoadedNames(store, self._pool)

    async def start(self) -> None:
        """Look at the machine, start a spare process, watch the store."""
        await self._pool.start()
        self._names.start()
        self._tell_machine()

    def _tell_machine(self) -> None:
        """Log the devices with their memory, and the context of requests that do not ask for one."""
        for device in (self._pool.host, *self._pool.gpus):
            memory = {"total_bytes": device.total, "free_bytes": device.free}
            log.info("device", extra=fields(device=device.handle or "cpu", name=device.name, **memory))
        config = self._config
        default = default_context(config.context_length, self._pool.gpus, config.gpu_overhead)
        log.info("context", extra=fields(default=default, grows=not config.context_length))

    async def stop(self) -> None:
        """End all processes. Running answers and later requests raise EngineStopped."""
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
        """Check a request, then load its model as the request needs it; nothing is generated."""
        await self._load(request, Watch())

    async def load_with_progress(self, request: AnyRequest) -> AsyncGenerator[Progress, None]:
        """The same, and tell how far that is. It has ended with the last event."""
        watch = Watch()
        load = asyncio.ensure_future(self._load(request, watch))
        try:
            async with aclosing(told_until(load, watch)) as told:
                async for progress in told:
                    yield progress
            await load
        finally:
            load.cancel()
            await asyncio.gather(load, return_exceptions=True)

    async def _load(self, request: AnyRequest, watch: Watch) -> None:
        async def nothing(job: Job, lease: Lease, load_duration: int) -> None:
            pass

        await self._served(request, nothing, watch=watch)

    def loading(self) -> list[LoadingModel]:
        """The models that are being loaded."""
        return self._pool.loading()

    def unready(self) -> str:
        """Why no model can be run, in a line; "" if models can."""
        if self._pool.stopping:
            return str(EngineStopped())
        return "llama.cpp's self-test has failed on this machine" if self._pool.at_fault else ""

    async def metrics(self) -> list[Metric]:
        """What the engine has done and does, for Prometheus."""
        return [*await self._pool.state_metrics(), *await asyncio.to_thread(lambda: [*self._metrics.kept()])]

    async def plan(self, request: PlanRequest) -> LoadPlan:
        """What a load as the request needs it would take; nothing is loaded, so no queue is too full for it."""
        job = await self._checked(request)
        weights = self._repack_cache.stored(job.model)
        spec = load_spec(job.model, weights, job.options, job.num_ctx, len(self._pool.gpus))
        found = await self._pool.plan(job.model, weights, spec)
        return replace(found, context_requested=job.options.num_ctx or 0, gpus=len(self._pool.gpus))

    async def unload(self, name: str) -> None:
        """Unload a model once nothing runs in it. A bundled model is not installed for this."""
        model = await asyncio.to_thread(self._find, name, install=False)
        self._pool.expire(str(model.weights))

    async def render(self, request: GenerateRequest | ChatRequest) -> Rendered:
        """The prompt that `generate` or `chat` would run."""

        chances = self._chances()
        while True:
            with chances.taking():
                async with self._prepared(request, Watch()) as (_, prepared, lease):
                    prompt = prepared.prompt
                    loaded = lease.process.loaded
                    assert loaded is not None
                    text, media = placed_media(prompt) if loaded.sees or loaded.hears else (prompt.text, ())
                    count = await lease.process.count_tokens(text, add_special=True, media=media)
                    return Rendered(prompt.text, len(prompt.images), count)

    def generate(self, request: GenerateRequest) -> AsyncGenerator[Event, None]:
        """Complete a prompt: pieces of the answer, then a Final; before them its progress, if the request asks."""
        return self._answer(request)

    def chat(self, request: ChatRequest) -> AsyncGenerator[Event, None]:
        """Continue a conversation: pieces of the answer, then a Final; before them its progress, if it is asked for."""
        return self._answer(request)

    async def embed(self, request: EmbedRequest) -> Embeddings:
        """The vectors of a request's texts."""

        async def embeddings(job: Job, lease: Lease, load_duration: int) -> Embeddings:
            vectors, tokens = await embed(lease, job.model, request, job.options)
            self._log_read("embedded", job, tokens, texts=len(request.texts))
            return Embeddings(vectors=vectors, prompt_eval_count=tokens, load_duration=load_duration)

        return await self._served(request, embeddings, embeds=True)

    async def rerank(self, request: RerankRequest) -> Ranked:
        """How well each of a request's documents answers its query."""

        async def scores(job: Job, lease: Lease, load_duration: int) -> Ranked:
            ranked = await rerank(lease, job.model, request, job.options, load_duration)
            self._log_read("reranked", job, ranked.prompt_eval_count, documents=len(request.documents))
            return ranked

        return await self._served(request, scores, embeds=True)

    def _log_read(self, what: str, job: Job, tokens: int, **values: int) -> None:
        """Log one line for texts that were read and not answered, and count their tokens."""
        seconds = (time.perf_counter_ns() - job.started) / 1e9
        log.info(what, extra=fields(model=job.model.name.shortest, **values, tokens=tokens, seconds=seconds))
        tell_request(model=job.model.name.shortest, prompt_tokens=tokens)
        self._metrics.read(job.model.name.shortest, tokens)

    async def tokenize(self, request: TokenizeRequest) -> Tokenized:
        """The tokens of a text."""

        async def tokens(job: Job, lease: Lease, load_duration: int) -> Tokenized:
            return await tokenize(lease.process, request, load_duration)

        return await self._served(request, tokens)

    async def detokenize(self, request: DetokenizeRequest) -> Detokenized:
        """The text of tokens."""

        async def text(job: Job, lease: Lease, load_duration: int) -> Detokenized:
            return await detokenize(lease.process, request, load_duration)

        return await self._served(request, text)

    def _answer(self, request: GenerateRequest | ChatRequest) -> AsyncGenerator[Event, None]:
        watch = Watch()
        answer = self._begun_anew(request, watch)
        return with_progress(answer, watch) if request.progress else answer

    async def _begun_anew(self, request: GenerateRequest | ChatRequest, watch: Watch) -> AsyncGenerator[Event, None]:
        """An answer's events; it begins anew if it can, until it has given its client a piece."""
        chances = self._chances()
        while True:
            with chances.taking():
                async with aclosing(self._answer_once(request, watch, chances)) as events:
                    async for event in events:
                        chances.settled = True
                        yield event
                return

    async def _answer_once(
        self, request: GenerateRequest | ChatRequest, watch: Watch, chances: SecondChances
    ) -> AsyncGenerator[Event, None]:
        async with self._prepared(request, watch) as (job, prepared, lease):
            prompt, reader, grammar = prepared.prompt, prepared.reader, prepared.grammar
            if prompt.images:
                check_media(job, lease.process, prompt.images)
            name = job.model.name.shortest
            generation = Generation(lease, name, job.started, self._metrics, begins_anew=chances.allow)
            await lease.take_grown(len(prompt.text.encode()) + answer_room(job.options))
            asked = (job.options, lease, prompt, grammar, prepared.thinking, prepared.triggers)
            submit = build_submit(job.model, request, *asked)
            with self._explained_deaths(job):
                async with aclosing(generation.deltas(submit, prompt, reader, prepared.late_grammar)) as deltas:
                    async for delta in deltas:
                        with lease.handing_over():
                            yield delta
                shows_context = isinstance(request, GenerateRequest) and not request.raw
                context = await lease.process.tokenize(prompt.text + generation.text) if shows_context else None
        yield generation.final(context)

    async def _served(
        self,
        request: AnyRequest,
        work: Callable[[Job, Lease, int], Awaitable[T]],
        *,
        embeds: bool = False,
        watch: Watch | None = None,
    ) -> T:
        """What `work` makes of a request's job and a process that has its model loaded, in so many nanoseconds."""

        chances = self._chances()
        while True:
            with chances.taking():
                job = await self._job(request)
                async with self._loaded(job, watch or Watch(), embeds=embeds) as lease:
                    with self._explained_deaths(job):
                        return await work(job, lease, time.perf_counter_ns() - job.started)

    def _chances(self) -> SecondChances:
        return SecondChances(lambda: self._pool.stopping)

    @asynccontextmanager
    async def _prepared(
        self, request: GenerateRequest | ChatRequest, watch: Watch
    ) -> AsyncIterator[tuple[Job, PreparedPrompt, Lease]]:
        """A request's job and prompt, and a process that has its model loaded while the context lasts."""
        job = await self._job(request)
        constraint = await self._constraint(job.model, request)
        async with self._call_grammar(job.model, request) as late, self._loaded(job, watch, embeds=False) as lease:
            started = time.perf_counter()
            prepared = await prepare_prompt(job, request, constraint, lease, self._templates)
            prepared = replace(prepared, late_grammar=late)
            milliseconds = (time.perf_counter() - started) * 1e3
            log.debug("prompt made", extra=fields(characters=len(prepared.prompt.text), ms=milliseconds))
            if log.isEnabledFor(TRACE):
                log.log(TRACE, "prompt", extra=fields(prompt=prepared.prompt.text))
            yield job, prepared, lease

    async def _job(self, request: AnyRequest) -> Job:
        """The same as `_checked`. Raises ServerBusy before that if there is no use."""
        weights = self.models.last_weights(request.model)
        if weights is not None and self._pool.must_refuse(str(weights)):
            raise ServerBusy
        return await self._checked(request)

    async def _checked(self, request: AnyRequest) -> Job:
        """A request's model and options, checked in a thread."""
        started = time.perf_counter_ns()
        default = default_context(self._config.context_length, self._pool.gpus, self._config.gpu_overhead)

        def find_and_check() -> Job:
            model = self._find(request.model, install=True)
            return check_request(model, request, default, started, grows=not self._config.context_length)

        job = await asyncio.to_thread(find_and_check)
        values = {"kind": type(request).__name__, "model": job.model.name.shortest, "context": job.num_ctx}
        log.debug("request checked", extra=fields(**values, ms=(time.perf_counter_ns() - started) / 1e6))
        return job

    def _find(self, name: str, *, install: bool) -> Model:
        """The model under a name. Blocking: what is slow to compute of it is computed here, not on the event loop."""
        model = self.models.resolve(name, install=install)
        _ = model.capabilities, model.layout
        return model

    async def _constraint(self, model: Model, request: GenerateRequest | ChatRequest) -> Constraint | None:
        """The constraint of a request's answer, None for free text; its grammar is validated. Raises InvalidRequest."""
        output_format = answer_format(model, request)
        if isinstance(request, ChatRequest):
            constraint = await self._constraints.chat(request, offered_tools(request), output_format)
        elif request.format is not None:
            constraint = await self._constraints.content(request.format, output_format)
        else:
            return None
        if constraint is not None:
            await self._validator.check(constraint.answer_grammar(), constraint.what, constraint.field)
        return constraint

    @asynccontextmanager
    async def _call_grammar(
        self, model: Model, request: GenerateRequest | ChatRequest
    ) -> AsyncIterator[LateGrammar | None]:
        """The grammar of the calls that the model makes by itself; it is made while the context lasts."""
        if not isinstance(request, ChatRequest) or not chooses_calls(request):
            yield None
            return
        grammar = asyncio.create_task(self._valid_calls(model.route.answer_format, request))
        try:
            yield grammar
        finally:
            grammar.cancel()

    async def _valid_calls(self, output_format: Format, request: ChatRequest) -> Grammar | None:
        """That grammar, with any arguments if the tools' schemas cannot be used, or None: it fails no request."""
        for any_arguments in (False, True):
            try:
                grammar = await self._constraints.calls(
                    request.tools, output_format, once=not request.parallel_tool_calls, any_arguments=any_arguments
                )
                if grammar is not None:
                    await self._validator.check(grammar, "tools")
                return grammar
            except EngineError as error:
                log.warning("tool calls are not held to their schemas", extra=fields(reason=str(error)))
        return None

    @asynccontextmanager
    async def _loaded(self, job: Job, watch: Watch, *, embeds: bool) -> AsyncIterator[Lease]:
        """A process that has a job's model loaded while the context lasts; `watch` shows what that waits for."""
        model = job.model
        watch.look = lambda: ModelLoading(0.0) if self._repack_cache.makes(model) else None
        if model.route.uses_embedded_template and not embeds:
            self._templates.warm()
        weights = await self._repack_cache.weights(model)
        evicts = not isinstance(job.request, PreloadRequest)
        spec = load_spec(model, weights, job.options, job.num_ctx, len(self._pool.gpus), evicts=evicts)
        wishes = (job.request.keep_alive, job.most_ctx)
        async with self._pool.lease(model, weights, spec, *wishes, embeds=embeds, watch=watch) as lease:
            if not embeds:
                self._validator.warm()
            self._names.loaded(model)
            yield lease

    @contextmanager
    def _explained_deaths(self, job: Job) -> Iterator[None]:
        """Turn RunnerDied into EngineStopped while the engine stops; else add what is known of such deaths."""
        try:
            yield
        except RunnerDied as error:
            if self._pool.stopping:
                raise EngineStopped from None
            raise self._pool.explained(error, str(job.model.weights)) from None
