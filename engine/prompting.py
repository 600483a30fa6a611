"""Checks a request, renders its prompt, and chooses the reader of the answer."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace

from engine.api import AnyRequest, ChatRequest, GenerateRequest, Message, RerankRequest, Think, Tool
from engine.chat.conversation import conversation, drops_old_thinking, strip_old_thinking
from engine.chat.go_template import GoRenderer
from engine.chat.grammar.constraint import Constraint, call_triggers
from engine.chat.jinja.service import TemplateService
from engine.chat.output import Format, FormatSpec, OutputParser, ParseContext, ToolSet
from engine.chat.output.format import ReasoningMode
from engine.chat.output.reasoning import ThinkingSplitter
from engine.chat.prompt import Prompt, render_prompt, tag_images, tags_first, without_images
from engine.chat.route import HARMONY_FAMILIES, PromptRoute, completion_route
from engine.chat.truncate import render_to_fit
from engine.errors import CapabilityMissing, EngineError, InvalidRequest, ModelNotFound
from engine.generation import AnswerReader, CallLimit, LateGrammar, PlainText, answer_room, both_ends, max_characters
from engine.loading.lease import Lease
from engine.loading.load_options import effective_context
from engine.loading.process import RunnerProcess
from engine.messages import Grammar, ThinkingLimit, Triggers
from engine.model import Model
from engine.signatures import is_sound
from modelfile.gotemplate import ChatTemplate
from modelfile.parameters import Options, resolve_options

IMAGE_TOKENS = 768  # an image counts as this many while a conversation is trimmed
ONE_IMAGE_FAMILY = "mllama"


@dataclass(frozen=True, slots=True)
class Job:
    """A request that passed all checks, with its model, its options and its context in tokens.

    The context may grow to `most_ctx` tokens; that is `num_ctx` if somebody has set it. `think`: whether and how much
    the model thinks, None for embeddings. `started` is when the request came, in `perf_counter_ns` time.
    """

    model: Model
    request: AnyRequest
    options: Options
    num_ctx: int
    most_ctx: int
    think: Think | None
    started: int


@dataclass(frozen=True, slots=True)
class PreparedPrompt:
    """A job's prompt, the reader of the answer, the grammar that it must match and the end of its reasoning, if any.

    `triggers`: where the answer begins calls, which are held to the `late_grammar`.
    """

    prompt: Prompt
    reader: AnswerReader
    grammar: Grammar | None
    thinking: ThinkingLimit | None = None
    triggers: Triggers | None = None
    late_grammar: LateGrammar | None = None


def check_request(model: Model, request: AnyRequest, default_context: int, started: int, *, grows: bool = False) -> Job:
    """Make all checks that need no process. Blocking.

    `default_context`: tokens for requests without `num_ctx`, whose context may become longer if it `grows`; `started`:
    as in Job. Raises InvalidRequest, CapabilityMissing, ModelNotFound or OptionError.
    """
    think: Think | None = None
    if isinstance(request, GenerateRequest | ChatRequest):
        think = _checked_think(model, request)
        _require_capabilities(model, request)
    elif not model.weights.is_file():
        raise ModelNotFound(request.model)
    elif isinstance(request, RerankRequest) and "rerank" not in model.capabilities:
        raise CapabilityMissing(f'"{request.model}" does not support rerank', "model")
    options = resolve_options(model.parameters, request.options, **request.defaults)
    num_ctx = effective_context(model, options, default_context)
    most_ctx = max(num_ctx, model.context_length) if grows and options.num_ctx_auto else num_ctx
    return Job(model, request, options, num_ctx, most_ctx, think, started)


def _checked_think(model: Model, request: GenerateRequest | ChatRequest) -> Think | None:
    """Whether the model is to think, and how much. Raises InvalidRequest."""
    if isinstance(request, GenerateRequest) and request.raw and (request.template or request.system or request.context):
        raise InvalidRequest("raw mode does not support template, system, or context")
    thinks = "thinking" in model.capabilities
    if request.think and not thinks:
        raise InvalidRequest(f'"{request.model}" does not support thinking', "think")
    if request.think == "max" and model.config.model_family in HARMONY_FAMILIES:
        return "high"  # the most that their prompts know
    return True if request.think is None and thinks else request.think


def _require_capabilities(model: Model, request: GenerateRequest | ChatRequest) -> None:
    if isinstance(request, ChatRequest):
        purpose, needed, field = "chat", "tools" if offered_tools(request) else "", "tools"
    else:
        purpose, needed, field = "generate", "insert" if request.suffix else "", "suffix"
    if "completion" not in model.capabilities:
        raise CapabilityMissing(f'"{request.model}" does not support {purpose}', "model")
    if needed and needed not in model.capabilities:
        raise CapabilityMissing(f"{model.name.full} does not support {needed}", field)


def offered_tools(request: ChatRequest) -> tuple[Tool, ...]:
    """The tools that the model may call."""
    return () if request.tool_choice == "none" else request.tools


def chooses_calls(request: ChatRequest) -> bool:
    """Whether the model decides freely what to call, and what to say else."""
    return bool(request.tools) and request.tool_choice == "auto" and request.format is None


def answer_format(model: Model, request: GenerateRequest | ChatRequest) -> Format:
    """The format of the answer. With `raw` or `template` it has only thinking tags, with `suffix` only content."""
    if isinstance(request, ChatRequest):
        return model.route.answer_format
    route = completion_route(model.route, model.chat_template)
    if request.raw or request.template:
        return replace(route.answer_format, spec=FormatSpec(route.think_tags))
    return replace(route.answer_format, spec=FormatSpec()) if request.suffix else route.answer_format


async def prepare_prompt(
    job: Job,
    request: GenerateRequest | ChatRequest,
    constraint: Constraint | None,
    lease: Lease,
    templates: TemplateService,
) -> PreparedPrompt:
    """The prompt of a job's request, its reader and grammar. The context grows for a long conversation.

    Raises RenderError, EngineError, TemplateExecError.
    """
    if isinstance(request, ChatRequest):
        prompt, reader, context = await _chat(job, request, lease, templates)
    else:
        prompt, reader = await _completion(job, request, lease, templates)
        context = ParseContext(think=bool(job.think), prompt=prompt.text)
    triggers = None
    if isinstance(request, ChatRequest) and chooses_calls(request):
        once = not request.parallel_tool_calls
        triggers = call_triggers(request.tools, job.model.route.answer_format, context, once=once)
    grammar = None if constraint is None else constraint.grammar(context)
    return PreparedPrompt(prompt, reader, grammar, _thinking_limit(job.model, request, context), triggers)


def _thinking_limit(
    model: Model, request: GenerateRequest | ChatRequest, context: ParseContext
) -> ThinkingLimit | None:
    """The end of the answer's reasoning; None if the request sets none, or the answer has no reasoning."""
    if request.thinking_budget is None:
        return None
    spec = answer_format(model, request).spec
    mode = spec.reasoning_mode(context)
    if mode is ReasoningMode.NONE:
        return None
    return ThinkingLimit(request.thinking_budget, *spec.thinking, mode is ReasoningMode.BEGUN)


async def _chat(
    job: Job, request: ChatRequest, lease: Lease, templates: TemplateService
) -> tuple[Prompt, AnswerReader, ParseContext]:
    model, tools = job.model, offered_tools(request)
    messages = conversation(model.system, model.messages, request.messages)
    if not messages:
        raise InvalidRequest("the conversation has no messages", "messages")
    prompt = await _render(job, request, model.route, messages, tools, lease, templates)
    context = ParseContext(ToolSet(tools), bool(job.think), messages[-1], prompt.before_answer)
    demanded = request.tool_choice not in ("auto", "none")
    reader: AnswerReader = OutputParser(model.route.answer_format, context, held=demanded)
    if request.tool_choice == "none":
        reader = CallLimit(reader, 0)
    elif not request.parallel_tool_calls:
        reader = CallLimit(reader, 1)
    return prompt, reader, context


async def _completion(
    job: Job, request: GenerateRequest, lease: Lease, templates: TemplateService
) -> tuple[Prompt, AnswerReader]:
    """The prompt and the reader of the answer: raw, fill-in-the-middle, or a chat of one message."""
    model, think = job.model, job.think
    route = completion_route(model.route, model.chat_template)
    if request.raw:
        return Prompt(request.prompt, images=request.images), _splitter(route, think, request.prompt)
    if request.suffix:
        prompt = await asyncio.to_thread(_fill_in_middle, model, route, request, think)
        return replace(prompt, images=request.images), PlainText()
    assert lease.process.loaded is not None
    context = both_ends(request.context or (), max(lease.most, lease.process.loaded.n_ctx))
    past = await lease.process.detokenize(context) if context else ""
    stored = model.messages if request.context is None else ()
    asked = Message("user", request.prompt, images=request.images)
    messages = conversation(request.system or model.system, stored, [asked])
    if request.template:
        renderer = GoRenderer(await asyncio.to_thread(ChatTemplate.parse, request.template))
        # The template says where images are, as raw prompts do.
        prompt = await render_prompt(renderer, without_images(messages), [], think)
        prompt = replace(prompt, text=past + prompt.text, images=request.images)
        return prompt, _splitter(route, think, prompt.text)
    if route.uses_embedded_template:  # the renderer would put tags last, as in chats
        messages = tag_images(messages, tags_first)
    last = await _render(job, request, route, messages, [], lease, templates)
    prompt = Prompt(past + last.text, images=last.images)
    return prompt, OutputParser(route.answer_format, ParseContext(ToolSet(), bool(think), messages[-1], prompt.text))


async def _render(
    job: Job,
    request: GenerateRequest | ChatRequest,
    route: PromptRoute,
    messages: Sequence[Message],
    tools: Sequence[Tool],
    lease: Lease,
    templates: TemplateService,
) -> Prompt:
    """The prompt of a conversation, without its oldest messages if it is too long and `truncate` allows that."""
    model, process, renderer = job.model, lease.process, templates.renderer(route.renderer)
    if drops_old_thinking(model.config.model_family, model.name.model):
        messages = strip_old_thinking(messages)
    if model.config.model_family == ONE_IMAGE_FAMILY and any(len(message.images) > 1 for message in messages):
        refusal = EngineError if isinstance(request, ChatRequest) else InvalidRequest
        raise refusal("this model only supports one image while more than one image requested")
    if not request.truncate:
        prompt = await render_prompt(renderer, messages, tools, job.think)
    else:

        async def count(text: str) -> int:
            if len(text) > max_characters(model, lease.most):
                return len(text)  # more than fit, whatever the number
            return await process.count_tokens(text)

        prompt = await render_to_fit(
            renderer,
            messages,
            tools,
            job.think,
            limit=lease.num_ctx,
            count=count,
            image_tokens=IMAGE_TOKENS if model.projectors else 0,
            grow=lambda tokens: lease.grow(tokens + answer_room(job.options)),
        )
    assert process.loaded is not None
    if process.loaded.adds_bos:  # by itself; a second one would only confuse the model
        bos = route.bos or model.special_tokens.get("bos", "")
        prompt = replace(prompt, text=prompt.text.removeprefix(bos))
    return prompt


def check_media(job: Job, process: RunnerProcess, files: Sequence[bytes]) -> None:
    """Raise InvalidRequest for a request with images or sounds (`files`) whose model neither sees nor hears.

    Which of both it can is checked where the files are read.
    """
    assert process.loaded is not None
    if process.loaded.sees or process.loaded.hears:
        return
    kind, sense = ("audio", "audio") if is_sound(files[0]) else ("image", "vision")
    if sense in job.model.capabilities:
        raise InvalidRequest(f"the {sense} part of this model cannot be run yet", "images")
    if isinstance(job.request, ChatRequest) and job.model.route.uses_embedded_template:
        text = f"{kind} input is not supported - hint: if this is unexpected, you may need to provide the mmproj"
        raise InvalidRequest(text, "images")
    raise InvalidRequest("Multimodal data provided, but model does not support multimodal requests.", "images")


def _fill_in_middle(model: Model, route: PromptRoute, request: GenerateRequest, think: Think | None) -> Prompt:
    """The prompt for text between `prompt` and `suffix`: by the Go template if it can, else by the model's tokens."""
    if route.go_renderer is not None and route.traits.insert:
        return route.go_renderer.fill_in_middle(request.prompt, request.suffix, think)
    before, after, middle = (model.special_tokens.get(role, "") for role in ("fim_pre", "fim_suf", "fim_mid"))
    return Prompt(f"{before}{request.prompt}{after}{request.suffix}{middle}")


def _splitter(route: PromptRoute, think: Think | None, prompt: str) -> AnswerReader:
    """The reader of the answer to a prompt that the route's renderer did not write."""
    opening, closing = route.think_tags
    if not (think and opening):
        return PlainText()
    return ThinkingSplitter(opening, closing, opened=prompt.rstrip().endswith(opening))
