"""The façade: everything that the server can ask of models, as async iterators of typed events.

A request goes the same way whatever dialect it came in: find the model, check what it can do, settle the options,
wait for a process that has it loaded, render, generate, read thinking and tool calls out of the text.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from contextlib import aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass, replace

from engine.api import (
    ChatRequest,
    Embeddings,
    EmbedRequest,
    Event,
    Final,
    GenerateRequest,
    InferenceRequest,
    Message,
    Rendered,
    RunningModel,
    Think,
)
from engine.chat.conversation import conversation, forgets_thinking, without_old_thoughts
from engine.chat.go_template import GoRenderer
from engine.chat.grammar.constraint import Constraint
from engine.chat.jinja.service import TemplateService
from engine.chat.output import Format, FormatSpec, OutputParser, ParseContext, ToolSet
from engine.chat.output.reasoning import ThinkingSplitter
from engine.chat.prompt import Prompt, in_front, rendered, tagged
from engine.chat.route import HARMONY_FAMILIES, Route, completion_route
from engine.chat.truncate import render_to_fit
from engine.constraints import Constraints
from engine.demand import (
    ALWAYS_TOKENIZED,
    both_ends,
    build_submit,
    clamped,
    default_context,
    effective_context,
    load_spec,
    max_embedding_tokens,
    most_text,
)
from engine.embeddings import embed
from engine.errors import (
    CapabilityMissing,
    EngineError,
    EngineStopped,
    InvalidRequest,
    ModelNotFound,
    RunnerDied,
    Unsupported,
)
from engine.generation import Generation, PlainText, Reader, WithoutCalls
from engine.grammar_check import GrammarValidator
from engine.loading.derivations import RepackCache
from engine.loading.loaded_names import LoadedNames
from engine.loading.memory import normalizes
from engine.loading.pool import PoolConfig, RunnerPool
from engine.loading.process import RunnerProcess
from engine.messages import Grammar
from engine.model import Model, Models
from modelfile.gotemplate import ChatTemplate
from modelfile.parameters import Options, resolve_options
from registry.storage.store import Store

IMAGE_TOKENS = 768  # that an image counts for while a conversation is trimmed
ONE_IMAGE_FAMILY = "mllama"


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineConfig(PoolConfig):
    """`context_length` in tokens is what a request gets that does not ask; 0: by the memory of the GPUs.

    `go_templates` prefers (True) or forbids (False) the Go templates that models store.
    """

    context_length: int = 0
    go_templates: bool | None = None


@dataclass(frozen=True, slots=True)
class _Job:
    """A request that passed all checks: what it runs on, its options, its context in tokens, and whether it thinks."""

    model: Model
    request: InferenceRequest
    options: Options
    num_ctx: int
    think: Think | None
    started: int


class Engine:
    """Runs models. Owned by the event loop; `start` before and `stop` after all else."""

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

    async def generate(self, request: GenerateRequest) -> AsyncGenerator[Event, None]:
        """Complete a prompt; without one, load or unload. Raises EngineError and what reading a model raises."""
        started = time.perf_counter_ns()
        unload = not request.prompt and request.keep_alive == 0
        model = await asyncio.to_thread(self._find, request.model, install=not unload)
        if unload:
            self._pool.expire(str(model.weights))
            yield Final(done_reason="unload")
            return
        if request.raw and (request.template or request.system or request.context):
            raise InvalidRequest("raw mode does not support template, system, or context")
        job = self._job(model, request, "generate", ["insert"] if request.suffix else [], started)
        constraint = None
        if request.prompt and request.format is not None:
            format = _completion_format(model, request)
            constraint = await self._checked(await self._constraints.content(request.format, format))
        async with self._loaded(model, job.options, job.num_ctx, request.keep_alive) as process:
            if not request.prompt:
                yield Final(done_reason="load")
                return
            prompt, reader = await self._completion(job, request, process)
            turn = ParseContext(think=bool(job.think), prompt=prompt.text)
            grammar = None if constraint is None else constraint.grammar(turn)
            answer = self._answer(job, prompt, reader, grammar, process, with_context=not request.raw)
            async with aclosing(answer) as events:
                async for event in events:
                    yield event

    async def chat(self, request: ChatRequest) -> AsyncGenerator[Event, None]:
        """Continue a conversation; without messages, load or unload. Raises as `generate` does."""
        started = time.perf_counter_ns()
        unload = not request.messages and request.keep_alive == 0
        model = await asyncio.to_thread(self._find, request.model, install=not unload)
        if unload:
            self._pool.expire(str(model.weights))
            yield Final(done_reason="unload")
            return
        tools = [] if request.tool_choice == "none" else request.tools
        job = self._job(model, request, "chat", ["tools"] if tools else [], started)
        constraint = None
        if request.messages:
            constraint = await self._checked(await self._constraints.chat(request, tools, model.route.format))
        async with self._loaded(model, job.options, job.num_ctx, request.keep_alive) as process:
            if not request.messages:
                yield Final(done_reason="load")
                return
            messages = conversation(model.system, model.messages, request.messages)
            prompt = await self._render(job, model.route, messages, tools, process)
            turn = ParseContext(ToolSet(tools, request.schemas), bool(job.think), messages[-1], prompt.lead)
            reader: Reader = OutputParser(model.route.format, turn)
            if request.tool_choice == "none":
                reader = WithoutCalls(reader)
            grammar = None if constraint is None else constraint.grammar(turn)
            async with aclosing(self._answer(job, prompt, reader, grammar, process, with_context=False)) as events:
                async for event in events:
                    yield event

    async def embed(self, request: EmbedRequest) -> Embeddings:
        """The vectors of texts; without texts, load or unload. Raises as `generate` does."""
        started = time.perf_counter_ns()
        unload = not request.texts and request.keep_alive == 0
        model = await asyncio.to_thread(self._find, request.model, install=not unload)
        if not model.weights.is_file():
            raise ModelNotFound(request.model)
        if unload:
            self._pool.expire(str(model.weights))
            return Embeddings()
        options = resolve_options(model.parameters, request.options)
        num_ctx = effective_context(model, options, self._default_context())
        async with self._loaded(model, options, num_ctx, request.keep_alive, embeds=bool(request.texts)) as process:
            load_duration = time.perf_counter_ns() - started
            normalize = request.normalize or normalizes(model.header)
            longest = max_embedding_tokens(model, options, num_ctx)
            most = max(ALWAYS_TOKENIZED, most_text(model, longest))  # what is beyond would be cut, or is refused so too
            request = replace(request, texts=[text[:most] for text in request.texts])
            with self._telling_a_stop():
                vectors, tokens = await embed(process, request, options, longest, normalize=normalize)
        return Embeddings(vectors=vectors, prompt_eval_count=tokens, load_duration=load_duration)

    def _find(self, name: str, *, install: bool) -> Model:
        """The model under a name, with all that its prompts need read here and not on the event loop."""
        model = self.models.resolve(name, install=install)
        _ = model.capabilities, model.layout
        return model

    def _job(
        self, model: Model, request: InferenceRequest, purpose: str, capabilities: Sequence[str], started: int
    ) -> _Job:
        """All checks that need no process. Raises InvalidRequest, CapabilityMissing, Unsupported or OptionError."""
        if request.think and "thinking" not in model.capabilities:
            raise InvalidRequest(f'"{request.model}" does not support thinking')
        think: Think | None = True if request.think is None and "thinking" in model.capabilities else request.think
        if think == "max" and model.config.model_family in HARMONY_FAMILIES:
            think = "high"  # the most that their prompts know
        if "completion" not in model.capabilities:
            raise CapabilityMissing(f'"{request.model}" does not support {purpose}')
        missing = [name for name in capabilities if name not in model.capabilities]
        if missing:
            raise CapabilityMissing("\n".join(f"{model.name.full} does not support {name}" for name in missing))
        options = resolve_options(model.parameters, request.options)
        if request.logprobs:
            raise Unsupported("logprobs")
        num_ctx = effective_context(model, options, self._default_context())
        return _Job(model, request, options, num_ctx, think, started)

    def _default_context(self) -> int:
        return default_context(self._config.context_length, self._pool.gpus, self._config.gpu_overhead)

    async def _checked(self, constraint: Constraint | None) -> Constraint | None:
        """The same, once its grammar is known to be harmless. Raises InvalidRequest."""
        if constraint is not None:
            await self._validator.check(constraint.grammar(ParseContext()), constraint.what)
        return constraint

    @asynccontextmanager
    async def _loaded(
        self, model: Model, options: Options, num_ctx: int, keep_alive: float | None, *, embeds: bool = False
    ) -> AsyncIterator[RunnerProcess]:
        """A process that has loaded a model, for as long as the context lasts."""
        if model.route.native and not embeds:
            self._templates.warm()
        weights = await self._repack_cache.weights(model)
        spec = load_spec(model, options, num_ctx, len(self._pool.gpus))
        async with self._pool.lease(model, weights, spec, keep_alive, embeds=embeds) as process:
            self._names.loaded(model)
            yield process

    async def _completion(self, job: _Job, request: GenerateRequest, process: RunnerProcess) -> tuple[Prompt, Reader]:
        """The prompt of `generate`, as it is, around a hole, or as a chat of one message, and who reads the answer."""
        model, think = job.model, job.think
        route = completion_route(model.route, model.chat_template)
        if request.raw:
            return Prompt(request.prompt, images=request.images), _splitter(route, think, request.prompt)
        if request.suffix:
            prompt = await asyncio.to_thread(_around, model, route, request, think)
            return replace(prompt, images=request.images), PlainText()
        assert process.loaded is not None
        known = both_ends(request.context or (), process.loaded.n_ctx)
        past = await process.detokenize(known) if known else ""
        stored = model.messages if request.context is None else ()
        asked = Message("user", request.prompt, images=request.images)
        messages = conversation(request.system or model.system, stored, [asked])
        if request.template:
            renderer = GoRenderer(await asyncio.to_thread(ChatTemplate.parse, request.template))
            prompt = await rendered(renderer, messages, [], think)
            prompt = replace(prompt, text=past + prompt.text)
            return prompt, _splitter(route, think, prompt.text)
        if route.native:  # whose way with images is that of chats
            messages = tagged(messages, in_front)
        found = await self._render(job, route, messages, [], process)
        prompt = Prompt(past + found.text, images=found.images)
        return prompt, OutputParser(route.format, ParseContext(ToolSet(), bool(think), messages[-1], prompt.text))

    async def _render(
        self,
        job: _Job,
        route: Route,
        messages: Sequence[Message],
        tools: Sequence[dict[str, object]],
        process: RunnerProcess,
    ) -> Prompt:
        model, renderer = job.model, self._templates.renderer(route.renderer)
        if forgets_thinking(model.config.model_family, model.name.model):
            messages = without_old_thoughts(messages)
        if model.config.model_family == ONE_IMAGE_FAMILY and any(len(message.images) > 1 for message in messages):
            refusal = EngineError if isinstance(job.request, ChatRequest) else InvalidRequest
            raise refusal("this model only supports one image while more than one image requested")
        if not job.request.truncate:
            prompt = await rendered(renderer, messages, tools, job.think)
        else:

            async def count(text: str) -> int:
                if len(text) > most_text(model, job.num_ctx):
                    return len(text)  # too many anyway
                return await process.count_tokens(text)

            prompt = await render_to_fit(
                renderer,
                messages,
                tools,
                job.think,
                limit=job.num_ctx,
                count=count,
                image_tokens=IMAGE_TOKENS if model.projectors else 0,
            )
        assert process.loaded is not None
        if process.loaded.adds_bos:  # by itself; a second one would only confuse the model
            bos = route.bos or model.special_tokens.get("bos", "")
            prompt = replace(prompt, text=prompt.text.removeprefix(bos))
        return prompt

    async def _answer(
        self,
        job: _Job,
        prompt: Prompt,
        reader: Reader,
        grammar: Grammar | None,
        process: RunnerProcess,
        *,
        with_context: bool,
    ) -> AsyncGenerator[Event, None]:
        if job.request.debug_render_only:
            yield Rendered(prompt.text, len(prompt.images))
            return
        if prompt.images:
            raise _without_eyes(job)
        generation = Generation(process, job.started)
        preserved = job.model.route.format.preserved
        assert process.loaded is not None
        sizes = job.num_ctx, process.loaded.n_ctx
        options = clamped(job.options, process.loaded.n_batch)
        submit = build_submit(job.model, job.request, options, prompt, *sizes, preserved, grammar)
        with self._telling_a_stop():
            async with aclosing(generation.deltas(submit, prompt, reader)) as deltas:
                async for delta in deltas:
                    yield delta
            context = await process.tokenize(prompt.text + generation.text) if with_context else None
        yield generation.final(context)

    @contextmanager
    def _telling_a_stop(self) -> Iterator[None]:
        """A process that ends because the engine stops has not died; of others all is told that is known."""
        try:
            yield
        except RunnerDied as error:
            if self._pool.stopping:
                raise EngineStopped from None
            raise self._pool.explained(error) from None


def _without_eyes(job: _Job) -> EngineError:
    """Why images cannot be shown to a model."""
    if "vision" in job.model.capabilities:
        return Unsupported("image input")
    if isinstance(job.request, ChatRequest) and job.model.route.native:
        return EngineError(
            "image input is not supported - hint: if this is unexpected, you may need to provide the mmproj"
        )
    return InvalidRequest("Multimodal data provided, but model does not support multimodal requests.")


def _around(model: Model, route: Route, request: GenerateRequest, think: Think | None) -> Prompt:
    """The prompt that asks for a hole to be filled: by the Go template if it knows how, else by the model's tokens."""
    if route.go is not None and route.traits.insert:
        return route.go.around(request.prompt, request.suffix, think)
    before, after, middle = (model.special_tokens.get(role, "") for role in ("fim_pre", "fim_suf", "fim_mid"))
    return Prompt(f"{before}{request.prompt}{after}{request.suffix}{middle}")


def _completion_format(model: Model, request: GenerateRequest) -> Format:
    """The format of an answer of `generate`: what the route did not write the prompt of has reasoning at most."""
    route = completion_route(model.route, model.chat_template)
    if request.raw or request.template:
        return replace(route.format, spec=FormatSpec(route.think_tags))
    return replace(route.format, spec=FormatSpec()) if request.suffix else route.format


def _splitter(route: Route, think: Think | None, prompt: str) -> Reader:
    """Who reads an answer to a prompt that the route did not write."""
    opening, closing = route.think_tags
    if not (think and opening):
        return PlainText()
    return ThinkingSplitter(opening, closing, opened=prompt.rstrip().endswith(opening))
