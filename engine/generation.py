"""One answer of a model: the message that starts it, its deltas, its final event and log line; limits of texts."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator, Sequence
from contextlib import suppress
from contextvars import copy_context
from dataclasses import replace
from itertools import chain, groupby
from typing import Any, Protocol

import msgspec

from engine.api import CallPart, Delta, DoneReason, Final, GenerateRequest, InferenceRequest, TokenLogprob, ToolCall
from engine.chat.prompt import Prompt, take_tags_out
from engine.errors import PROMPT_TOO_LONG, ContextExceeded, EngineError, InvalidRequest, context_exceeded
from engine.loading import devices
from engine.loading.lease import Lease
from engine.loading.memory import LONGEST_BESIDE
from engine.loading.token_stream import TokenStream
from engine.messages import (
    NO_LIMIT,
    Chunk,
    Done,
    Grammar,
    PlacedFile,
    Sampling,
    ScoredChunk,
    ScoredToken,
    Submit,
    ThinkingLimit,
    Triggers,
    padded,
)
from engine.metrics import Answered, EngineMetrics
from engine.model import Model
from modelfile.parameters import Options
from registry.gguf import GGUFArray
from registry.logfields import fields, tell_request

NEVER_SHIFTING = ("deepseek2",)
ALWAYS_TOKENIZED = 4 << 20  # characters: a shorter text is tokenised however small the context is
ROOM = 1024  # tokens for an answer of unknown length
MOST_ROOM = 2048  # tokens that are made free for an answer before it begins
MOST_TEXT = 64 << 20  # characters: a longer text is not tokenised however large the context is
log = logging.getLogger("pronk.engine")


LateGrammar = asyncio.Task[Grammar | None]


class AnswerReader(Protocol):
    """Parses thinking and tool calls out of the text as it arrives."""

    @property
    def thoughts(self) -> Sequence[tuple[int, int]]:
        """The blocks of reasoning that have ended, as (start, end) in characters of all text that was fed."""

    def feed(self, text: str, final: bool = False, held: bool = False) -> Iterator[Delta]:
        """The deltas that are certain by now; `final`: `text` is the last chunk, `held`: a grammar holds its calls."""


class PlainText:
    """Everything is content."""

    thoughts: Sequence[tuple[int, int]] = ()

    def feed(self, text: str, final: bool = False, held: bool = False) -> Iterator[Delta]:
        """The text as one delta."""
        if text:
            yield Delta(text)


class CallLimit:
    """Another reader, without the tool calls behind the first `most`."""

    def __init__(self, reader: AnswerReader, most: int) -> None:
        self._reader = reader
        self._most = most

    @property
    def thoughts(self) -> Sequence[tuple[int, int]]:
        """The blocks of reasoning that the other reader found."""
        return self._reader.thoughts

    def feed(self, text: str, final: bool = False, held: bool = False) -> Iterator[Delta]:
        """The deltas of content, thinking and those calls."""
        for delta in self._reader.feed(text, final, held):
            calls: Sequence[ToolCall | CallPart] = (*delta.tool_calls, *delta.call_parts)
            if all(call.index < self._most for call in calls):
                yield delta


class Generation:
    """The answer to one prompt. Iterate over `deltas` to its end, then call `final`; belongs to one task.

    Leaving `deltas` early cancels the answer in the process. `model` is the name for log and `metrics`; `started` is
    when the request came, in `perf_counter_ns` time. The load duration ends when this object is made. `begins_anew`
    says whether the request does so after an error: then this answer is not told, nor counted.
    """

    def __init__(
        self,
        lease: Lease,
        model: str,
        started: int,
        metrics: EngineMetrics,
        begins_anew: Callable[[EngineError], bool] = lambda error: False,
    ) -> None:
        self._metrics = metrics
        self._begins_anew = begins_anew
        self._lease = lease
        self._process = lease.process
        self._model = model
        self._started = started
        self._first_text = 0
        self._load_duration = time.perf_counter_ns() - started
        self._chunks: list[Chunk] = []
        self._thinking_count = 0
        self._left_out = self._left_out_tokens = 0
        self._calls = False
        self._done: Done | None = None
        self._context = copy_context()  # for the log of tasks that the child's messages start
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def text(self) -> str:
        """All that the model has written, markup included; not the beginning that the prompt contained."""
        return "".join([chunk.text for chunk in self._chunks])

    async def deltas(
        self, submit: Submit, prompt: Prompt, reader: AnswerReader, late_grammar: LateGrammar | None = None
    ) -> AsyncGenerator[Delta, None]:
        """The pieces of the answer as they come. Raises what `TokenStream.read` and the reader raise.

        A prompt that is refused for want of `room` is submitted again with as much context as can be had.
        `late_grammar` is the grammar for the calls of an answer that is submitted with triggers.
        """
        message_id, answer = self._submit(submit, late_grammar)
        self._left_out, self._left_out_tokens = prompt.left_out, prompt.left_out_tokens
        end: str | None = "cancelled"
        self._lease.stop_answer = lambda: self._process.cancel(message_id)
        read = _read_scored if submit.logprobs or submit.prompt_logprobs else _read
        try:
            start = _answer_start(prompt, reader)
            if not submit.progress:  # else it waits for the model's first piece, before which progress is told
                for delta in start:
                    yield delta
            while self._done is None:
                try:
                    chunks, self._done = await answer.read()
                except ContextExceeded as error:
                    submit = await self._with_more_context(submit, error)
                    message_id, answer = self._submit(submit, late_grammar)
                    continue
                self._chunks += chunks
                self._first_text = self._first_text or time.perf_counter_ns()
                for delta in chain(start, read(reader, chunks, self._done is not None)):
                    self._calls |= bool(delta.tool_calls)
                    yield delta
            self._thinking_count = count_thinking(self._chunks, reader.thoughts, _length_fed(prompt))
            end = self._end
        except EngineError as error:
            end = None if self._begins_anew(error) else "failed"
            raise
        finally:
            for task in self._tasks:
                task.cancel()
            if not answer.ended:
                self._process.cancel(message_id)
            if end is not None:
                self._tell(end)

    def final(self, context: list[int] | None = None) -> Final:
        """The last event, once `deltas` has ended. `context`: tokens of prompt and answer, if the API shows them."""
        done = self._done
        assert done is not None
        return Final(
            done_reason=self._end,
            stop_text=done.stop,
            thinking_count=self._thinking_count,
            context=context,
            load_duration=self._load_duration,
            prompt_eval_count=done.prompt_tokens,
            prompt_eval_cached=done.prompt_cached,
            prompt_left_out=self._left_out,
            prompt_cut=self._left_out_tokens + done.prompt_cut,
            prompt_eval_duration=done.prompt_ns,
            eval_count=done.tokens,
            eval_duration=done.tokens_ns,
        )

    def _submit(self, submit: Submit, late_grammar: LateGrammar | None) -> tuple[int, TokenStream]:
        """Send the prompt; returns the message's id and the stream of the answer."""
        message_id, answer = self._process.submit(submit, self._needs_room)
        self._lease.watch.look = lambda: answer.progress
        if late_grammar is not None and submit.triggers is not None:
            self._start(self._constrain(message_id, late_grammar))
        return message_id, answer

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        self._tasks.append(asyncio.get_running_loop().create_task(work, context=self._context))

    async def _with_more_context(self, submit: Submit, error: ContextExceeded) -> Submit:
        """A refused prompt's message, with as much context as can be had. Raises ContextExceeded if that is no use."""
        if not submit.room:
            raise error
        most = padded(self._lease.most)
        rejects = submit.overflow == "reject" or bool(submit.media)
        if error.tokens >= most and (rejects or not submit.shift):
            text = context_exceeded(error.tokens, most) if rejects else PROMPT_TOO_LONG
            raise ContextExceeded(text, error.tokens, most - 1) from None
        num_ctx = await self._lease.grow(error.tokens + submit.room)
        return msgspec.structs.replace(submit, num_ctx=num_ctx, room=0, grows=self._lease.can_grow)

    def _needs_room(self, message_id: int, tokens: int) -> None:
        """Called by the process: the context will soon be full."""
        self._start(self._extend(message_id, tokens))

    async def _extend(self, message_id: int, tokens: int) -> None:
        with suppress(EngineError):
            num_ctx = await self._lease.grow(max(tokens + ROOM, self._lease.num_ctx + 1))
            self._process.extend(message_id, num_ctx)

    async def _constrain(self, message_id: int, late_grammar: LateGrammar) -> None:
        grammar = None
        try:
            grammar = await late_grammar
        finally:  # whatever has happened, the answer may wait for it
            try:
                self._process.constrain(message_id, grammar)
            except InvalidRequest:  # it is too large for a message
                self._process.constrain(message_id, None)

    @property
    def _end(self) -> DoneReason:
        """How the answer ended."""
        assert self._done is not None
        return "tool_calls" if self._calls and self._done.reason == "stop" else self._done.reason

    @property
    def _truncation(self) -> dict[str, int]:
        """What is not in the prompt, because it would have been too long."""
        cut = self._done.prompt_cut if self._done is not None else 0
        return {"messages": self._left_out, "tokens": self._left_out_tokens + cut}

    def _tell(self, end: str) -> None:
        """Log one line for this answer, and count it; a prompt's tokens are known only of finished ones."""
        latency = (time.perf_counter_ns() - self._started) / 1e9
        first_token = (self._first_text - self._started) / 1e9 if self._first_text else None
        answer = Answered(end=end, latency=latency, first_token=first_token, tokens=self._arrived)
        values: dict[str, float] = {}
        if (done := self._done) is not None:
            answer = replace(
                answer,
                prompt_tokens=done.prompt_tokens,
                cached_tokens=done.prompt_cached,
                tier=done.tier,
                tokens=done.tokens,
                queued=self._lease.waited + done.queued_ns / 1e9,
                writing=done.tokens_ns / 1e9,
            )
            values = {"prompt_tokens": done.prompt_tokens, "cached_tokens": done.prompt_cached, "tokens": done.tokens}
            values["tokens_per_second"] = round(done.tokens / max(done.tokens_ns, 1) * 1e9, 1)
        if first_token is not None:
            values["first_token_ms"] = round(first_token * 1e3, 1)
        if cut := {name: count for name, count in self._truncation.items() if count}:
            log.warning("prompt truncated", extra=fields(model=self._model, **cut))
        log.info("answered", extra=fields(model=self._model, **values, seconds=latency, end=end))
        tell_request(model=self._model, **values, end=end)
        self._metrics.answered(self._model, answer)

    @property
    def _arrived(self) -> int:
        """Tokens of the answer so far."""
        return self._chunks[-1].tokens if self._chunks else 0


def _answer_start(prompt: Prompt, reader: AnswerReader) -> Iterator[Delta]:
    """The beginning of the answer that the prompt already contains."""
    if prompt.answer_start is None:
        return iter(())
    if not prompt.answer_start.content:  # the reader must know that reasoning has begun: it skips spaces at its start
        return reader.feed(prompt.answer_start.thinking)
    return iter((prompt.answer_start,))


def _length_fed(prompt: Prompt) -> int:
    """Number of characters that the reader gets before the answer's own."""
    return len(prompt.answer_start.thinking) if prompt.answer_start and not prompt.answer_start.content else 0


def _read(reader: AnswerReader, chunks: Sequence[Chunk], final: bool) -> Iterator[Delta]:
    """The deltas of all chunks together."""
    groups = [(held, [*group]) for held, group in groupby(chunks, lambda chunk: chunk.held)] or [(False, [])]
    for number, (held, group) in enumerate(groups, 1):
        yield from reader.feed("".join([chunk.text for chunk in group]), final and number == len(groups), held)


def _read_scored(reader: AnswerReader, chunks: Sequence[Chunk], final: bool) -> Iterator[Delta]:
    """The deltas of each chunk, the first one with its log-probabilities; an empty one if there is none."""
    for chunk in chunks:
        scores = tuple(_logprob(score) for score in chunk.scores) if isinstance(chunk, ScoredChunk) else ()
        for delta in reader.feed(chunk.text, held=chunk.held):
            yield replace(delta, logprobs=scores)
            scores = ()
        if scores:
            yield Delta(logprobs=scores)
    if final:
        yield from reader.feed("", final)


def _logprob(score: ScoredToken) -> TokenLogprob:
    return TokenLogprob(score.data, score.logprob, tuple(TokenLogprob(*other) for other in score.top))


def count_thinking(chunks: Sequence[Chunk], thoughts: Sequence[tuple[int, int]], offset: int) -> int:
    """How many tokens of an answer are in blocks of reasoning.

    `thoughts` are (start, end) in characters, of which `offset` came before the answer. A token across a border belongs
    to the side where most of its characters are; so do, in proportion, the tokens of a chunk that has several.
    """
    count, tokens, start = 0, 0, offset
    for chunk in chunks if thoughts else ():
        if not chunk.text:
            continue
        end = start + len(chunk.text)
        inside = sum(max(0, min(end, until) - max(start, since)) for since, until in thoughts)
        count += round((chunk.tokens - tokens) * inside / len(chunk.text))
        tokens, start = chunk.tokens, end
    return count


def max_embedding_tokens(model: Model, options: Options, num_ctx: int) -> int:
    """Most tokens of a text to embed: the least of context, requested context and trained context.

    Where the model also generates LONGEST_BESIDE limits it too. Unlike for prompts there is no minimum.
    """
    trained = model.header.size("context_length")
    limits = [num_ctx, num_ctx if options.num_ctx is None else options.num_ctx]
    limits += [trained] if trained else []
    limits += [LONGEST_BESIDE] if model.generates else []
    return min(limits)


def max_characters(model: Model, num_ctx: int) -> int:
    """Upper bound on the characters of `num_ctx` tokens, by the longest token; at most MOST_TEXT."""
    tokens = model.header.metadata.get("tokenizer.ggml.tokens")
    longest = tokens.longest if isinstance(tokens, GGUFArray) else 0
    return min(num_ctx * longest, MOST_TEXT) if longest else MOST_TEXT


def both_ends(tokens: Sequence[int], num_ctx: int) -> Sequence[int]:
    """The first and the last `num_ctx` tokens: a prompt of that length can use no others."""
    return tokens if len(tokens) <= 2 * num_ctx else [*tokens[:num_ctx], *tokens[-num_ctx:]]


def clamped(options: Options, n_batch: int) -> Options:
    """The options with `num_thread` and `num_batch` limited to the processors and to `n_batch`; logs each limit."""
    if options.num_thread and options.num_thread > (processors := devices.usable_processors()):
        log.warning("num_thread limited", extra=fields(requested=options.num_thread, processors=processors))
        options = replace(options, num_thread=processors)
    if options.num_batch and options.num_batch > n_batch:
        log.warning("num_batch limited", extra=fields(requested=options.num_batch, n_batch=n_batch))
        options = replace(options, num_batch=n_batch)
    return options


def placed_media(prompt: Prompt) -> tuple[str, tuple[PlacedFile, ...]]:
    """A prompt's text without the tags of its images, and these. Raises InvalidRequest if an image has no place."""
    try:
        text, images = take_tags_out(prompt.text, prompt.images)
    except ValueError:
        raise InvalidRequest("Failed to tokenize prompt", "images") from None
    return text, tuple(PlacedFile(at, image) for at, image in images)


def answer_room(options: Options) -> int:
    """Tokens that should be free behind a prompt for its answer; the context goes on growing for a longer one."""
    return min(options.num_predict, MOST_ROOM) if options.num_predict > 0 else ROOM


def build_submit(
    model: Model,
    request: InferenceRequest,
    options: Options,
    lease: Lease,
    prompt: Prompt,
    grammar: Grammar | None,
    thinking: ThinkingLimit | None = None,
    triggers: Triggers | None = None,
) -> Submit:
    """The message that starts a generation; RunnerProcess gives it its id.

    `grammar`: what the answer must match; `thinking`: where its reasoning must end; `triggers`: where it begins calls,
    whose grammar comes later.

    Raises ContextExceeded for a prompt with more characters than the context can hold, however far it grows, and
    InvalidRequest for one in which an image has no place.
    """
    loaded = lease.process.loaded
    assert loaded is not None
    if len(prompt.text) > max(ALWAYS_TOKENIZED, max_characters(model, max(lease.most, loaded.n_ctx))):
        raise ContextExceeded(PROMPT_TOO_LONG)
    text, media = placed_media(prompt)
    options = clamped(options, loaded.n_batch)
    shift = model.config.model_family not in NEVER_SHIFTING if request.shift is None else request.shift
    return Submit(
        id=0,
        prompt=text,
        media=media,
        num_ctx=lease.num_ctx,
        num_predict=options.num_predict,
        num_keep=options.num_keep,
        shift=shift,
        overflow="reject" if prompt.reject_overflow or not request.truncate else "cut",
        stop=options.stop,
        sampling=Sampling(**{name: getattr(options, name) for name in Sampling.__struct_fields__}),
        preserved=model.route.answer_format.preserved,
        grammar=grammar,
        triggers=triggers,
        num_thread=options.num_thread,
        num_batch=options.num_batch or 0,
        most_drafted=NO_LIMIT if options.draft_num_predict is None else options.draft_num_predict,
        prompt_logprobs=isinstance(request, GenerateRequest) and request.prompt_logprobs,
        tokens=tuple(request.prompt_tokens) if isinstance(request, GenerateRequest) else (),
        logprobs=request.logprobs,
        top_logprobs=request.top_logprobs,
        thinking=thinking,
        room=answer_room(options) if lease.can_grow else 0,
        grows=lease.can_grow,
        progress=request.progress,
    )
