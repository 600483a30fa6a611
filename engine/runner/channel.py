"""The child's end of the socket to the server. One thread reads, others prepare requests; any thread may send."""

from __future__ import annotations

import os
import socket
import threading
import time
from array import array
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import NoReturn, Protocol

from engine.client import Client
from engine.embed_messages import Embed, Rerank
from engine.messages import (
    FRAME_HEADER,
    MAX_FRAME,
    Cancel,
    Constrain,
    Detokenize,
    Extend,
    Failed,
    FromRunner,
    LoadModel,
    Pause,
    Ping,
    Report,
    Resize,
    Submit,
    Text,
    Tokenize,
    Tokens,
    ToRunner,
    WriteStates,
    frames,
    to_runner_decoder,
)
from engine.runner.embed_request import PoolJob, make_job
from engine.runner.grammar import STACK, GrammarRejected, Grammars
from engine.runner.lazy_matcher import CallGrammar
from engine.runner.llamacpp import AbortFlag
from engine.runner.log import log_event
from engine.runner.media import MediaRejected
from engine.runner.multimodal import MediaReader
from engine.runner.preprocess import PromptRejected, RequestRejected, make_sequence, prompt_tokens
from engine.runner.projector import Span
from engine.runner.rerank_request import make_rerank_job
from engine.runner.sequence import Sequence
from engine.runner.turns import TurnQueue
from engine.runner.vocabulary import Vocabulary
from engine.stats import Stats

_IDLE = 1.0  # seconds
REPORT_INTERVAL = 1.0
_TURNS = 8  # requests with grammars that are prepared by turns; others wait
_LONG = 64 << 10  # characters or tokens; longer texts are tokenised on a thread of their own
_OVER = object()
_Work = Submit | Embed | Rerank
_TextMessage = _Work | Tokenize | Detokenize


@dataclass(frozen=True, slots=True)
class LateGrammar:
    """A grammar for an answer that may have begun."""

    id: int
    grammar: CallGrammar | None


@dataclass(frozen=True, slots=True)
class RowsReady:
    """A chunk of a medium has been encoded, or could not be: the loop should look again."""


@dataclass(frozen=True, slots=True)
class StateRead:
    """A state was read from the disk, or could not be: the loop should look again."""


@dataclass(frozen=True, slots=True)
class StatesDue:
    """The loop should look for states that nobody has used for a while."""


@dataclass(frozen=True, slots=True)
class ReadPrompt:
    """A request whose media have become tokens and spans."""

    message: Submit
    tokens: array[int]
    spans: tuple[Span, ...]

    @property
    def client(self) -> Client:
        """Whose request it is."""
        return self.message.client


Item = (
    Sequence
    | PoolJob
    | Cancel
    | Pause
    | LateGrammar
    | RowsReady
    | StateRead
    | StatesDue
    | Resize
    | Extend
    | WriteStates
)
"""What the loops get."""


class Counters(Protocol):
    """What other threads may see of the loops; cancelling one of `interruptible` should abort the running pass."""

    @property
    def interruptible(self) -> frozenset[int]: ...
    def stats(self) -> Stats: ...


def _leave() -> NoReturn:
    os._exit(0)  # the parent is gone: nobody waits for what still runs


class Channel:
    """Reads and writes frames; when the parent's end is closed, `leave` ends the process at once.

    The reader thread never waits for llama.cpp: it answers pings and passes on cancels while others tokenise. `n_ctx`:
    the context in tokens, padded, by which prompts are measured; the loop thread may change it.
    """

    def __init__(self, sock: socket.socket, leave: Callable[[], NoReturn] = _leave) -> None:
        self._sock = sock
        self._leave = leave
        self.n_ctx = 0
        self._sending = threading.Lock()
        self._inbox: SimpleQueue[Item] = SimpleQueue()
        self._tokenizer_queue: TurnQueue[_TextMessage] = TurnQueue()
        self._long_queue: TurnQueue[_TextMessage] = TurnQueue()  # megabytes can take many seconds
        self._media_queue: TurnQueue[Submit | Tokenize] = TurnQueue()
        self._grammar_queue: TurnQueue[Submit | ReadPrompt | Constrain] = TurnQueue()
        self._preparing: set[int] = set()  # ids: submitted, not cancelled, not yet in the inbox
        self._early_grammars: dict[int, LateGrammar] = {}  # by id, of requests that are still being prepared
        self._handover = threading.Lock()
        self._generates = False  # whether there was a request for an answer
        self._requested = threading.Event()  # since the reports thread last looked

    def send(self, events: list[FromRunner]) -> None:
        """Send events, in one frame if they fit. Safe from any thread; blocks while the parent does not read."""
        try:
            with self._sending:
                for frame in frames(events):
                    self._sock.sendall(frame)
        except OSError:
            self._leave()

    def receive_load(self) -> LoadModel:
        """Block for the first message, `LoadModel`. Raises TypeError if it is another."""
        message = self._read()
        if not isinstance(message, LoadModel):
            raise TypeError(f"expected Load, got {type(message).__name__}")
        return message

    def serve(
        self,
        vocabulary: Vocabulary,
        abort: AbortFlag,
        counters: Counters,
        n_ctx: int,
        media: MediaReader | None = None,
    ) -> None:
        """Start the threads that read and prepare requests.

        `n_ctx` is the loaded context in tokens, padded. `media` reads prompts with pictures and sounds, None for models
        without a projector.
        """
        self.n_ctx = n_ctx
        _start("reader", lambda: self._serve(abort, counters))
        _start("reports", lambda: self._report(counters))
        _start("tokenizer", lambda: self._tokenize(self._tokenizer_queue, vocabulary))
        _start("long texts", lambda: self._tokenize(self._long_queue, vocabulary))
        if media is not None:
            _start("media", lambda: self._read_media(media, vocabulary))
        before = threading.stack_size(STACK)
        _start("grammars", lambda: self._constrain(vocabulary, counters))
        threading.stack_size(before)

    def rows_ready(self) -> None:
        """Wake the loop. Safe from any thread."""
        self._inbox.put(RowsReady())

    def state_read(self) -> None:
        """Wake the loop. Safe from any thread."""
        self._inbox.put(StateRead())

    def states_due(self) -> None:
        """Have the loop look for states to write. Safe from any thread."""
        self._inbox.put(StatesDue())

    def take(self, *, block: bool) -> Item | None:
        """The next item for the loops, which may wait for one if `block`; None if there is none."""
        if not block and self._inbox.empty():
            return None
        return self._inbox.get()

    def _serve(self, abort: AbortFlag, counters: Counters) -> None:
        """The reader thread: hand requests to the threads that prepare them, answer pings, pass on cancels."""
        while True:
            message = self._read()
            self._generates |= isinstance(message, Submit)
            if isinstance(message, _Work):
                self._requested.set()
            match message:
                case Submit() if message.media:
                    self._preparing.add(message.id)
                    self._media_queue.put(message)
                case Submit() if message.grammar is not None:
                    self._preparing.add(message.id)
                    self._grammar_queue.put(message)
                case Submit() | Embed() | Rerank():
                    self._preparing.add(message.id)
                    self._queue_for(message).put(message)
                case Constrain():
                    self._grammar_queue.put(message)
                case Tokenize() if message.media:
                    self._media_queue.put(message)
                case Resize() | Extend() | Pause() | WriteStates():
                    self._inbox.put(message)
                case Tokenize() | Detokenize():
                    self._queue_for(message).put(message)
                case Cancel(id=request_id):
                    self._cancel(message)
                    if request_id in counters.interruptible:
                        abort.set()
                case Ping(id=ping_id):
                    self.send([Report(ping_id, counters.stats())])

    def _report(self, counters: Counters) -> None:
        """The reports thread: tell the server each second what is done, while there are requests and once after."""
        while True:
            self._requested.wait()
            self._requested.clear()
            stats = Stats(waiting=1)
            while stats.busy or stats.running or stats.waiting or self._preparing or not self._inbox.empty():
                time.sleep(REPORT_INTERVAL)
                stats = counters.stats()
                self.send([Report(0, stats)])

    def _cancel(self, message: Cancel) -> None:
        """Drop a request that is still being prepared; else pass the cancel on to the loops."""
        with self._handover:
            if message.id in self._preparing:
                self._preparing.remove(message.id)
                self._early_grammars.pop(message.id, None)
            else:
                self._inbox.put(message)

    def _queue_for(self, message: _TextMessage) -> TurnQueue[_TextMessage]:
        """The queue of a message's thread: long texts have their own, so that short ones need not wait for them."""
        return self._long_queue if _size(message) > _LONG else self._tokenizer_queue

    def _read_media(self, media: MediaReader, vocabulary: Vocabulary) -> None:
        """The media thread: read prompts with pictures and sounds, then prepare requests or count tokens."""
        while True:
            message = self._media_queue.get()
            if isinstance(message, Submit) and message.id not in self._preparing:
                continue
            started = time.perf_counter()
            text = message.prompt if isinstance(message, Submit) else message.text
            try:
                tokens, spans = media.read(text, message.media, message.cache_owner)
            except MediaRejected as error:
                self._refuse(Failed(message.id, "request", str(error), field="images"))
                continue
            if isinstance(message, Tokenize):
                self.send([Tokens(message.id, len(tokens))])
                continue
            milliseconds = (time.perf_counter() - started) * 1e3
            log_event(message.trace_id, "media read", seq=message.id, chunks=len(spans), ms=milliseconds)
            prompt = ReadPrompt(message, tokens, spans)
            if message.grammar is not None:
                self._grammar_queue.put(prompt)
            else:
                deque(self._prepare(vocabulary, prompt), maxlen=0)

    def _tokenize(self, queue: TurnQueue[_TextMessage], vocabulary: Vocabulary) -> None:
        """A tokenizer thread: prepare requests without a grammar, answer Tokenize and Detokenize."""
        while True:
            message = queue.get()
            match message:
                case Submit() | Embed() | Rerank():
                    deque(self._prepare(vocabulary, message), maxlen=0)
                case Tokenize():
                    self.send([_tokens(vocabulary, message)])
                case Detokenize(id=message_id, tokens=tokens):
                    self.send([Text(message_id, vocabulary.detokenize(tokens), vocabulary.first_invalid(tokens))])

    def _constrain(self, vocabulary: Vocabulary, counters: Counters) -> None:
        """Prepare requests with a grammar by turns, on a thread of their own: some take long."""
        grammars = Grammars(vocabulary)

        def begun(message: Submit | ReadPrompt | Constrain) -> Iterator[None]:
            if isinstance(message, Constrain):
                return self._constrain_later(message, grammars)
            return self._prepare(vocabulary, message, grammars)

        work = deque([begun(self._first_for_grammars(grammars, counters))])
        while True:
            while not work or (len(work) < _TURNS and not self._grammar_queue.empty()):
                work.append(begun(self._grammar_queue.get()))
            turn = work.popleft()
            if next(turn, _OVER) is not _OVER:
                work.append(turn)

    def _first_for_grammars(self, grammars: Grammars, counters: Counters) -> Submit | ReadPrompt | Constrain:
        """The first request with a grammar. Waiting for it, do what is slow once nothing happens behind an answer."""
        steps = -1
        while True:
            try:
                return self._grammar_queue.get(timeout=_IDLE)
            except Empty:
                stats = counters.stats()
                idle = not (self._preparing or stats.running or stats.waiting)
                if self._generates and idle and stats.steps == steps:
                    break
                steps = stats.steps
        grammars.prepare()
        return self._grammar_queue.get()

    def _constrain_later(self, message: Constrain, grammars: Grammars) -> Iterator[None]:
        """Compile a grammar and hand it to the loops, behind its request. A bad one leaves the answer free."""
        yield
        started = time.perf_counter()
        late = LateGrammar(message.id, None)
        try:
            if message.grammar is not None:
                late = LateGrammar(message.id, grammars.call_grammar(message.grammar))
        except GrammarRejected as error:
            log_event(message.trace_id, "grammar rejected", seq=message.id, reason=str(error))
        log_event(message.trace_id, "grammar compiled", seq=message.id, ms=(time.perf_counter() - started) * 1e3)
        with self._handover:
            if message.id in self._preparing:
                self._early_grammars[message.id] = late
            else:
                self._inbox.put(late)

    def _prepare(
        self, vocabulary: Vocabulary, work: _Work | ReadPrompt, grammars: Grammars | None = None
    ) -> Iterator[None]:
        """Turn a request into work for the loops and hand it over, unless it was cancelled meanwhile or is refused.

        Pauses often while it searches for an end of the answer.
        """
        message = work.message if isinstance(work, ReadPrompt) else work
        if message.id not in self._preparing:
            return
        started = time.perf_counter()
        try:
            item = _item(vocabulary, work, self.n_ctx, grammars)
        except PromptRejected as error:
            self._refuse(Failed(message.id, "context", str(error), error.tokens, error.limit))
            return
        except GrammarRejected as error:
            self._refuse(Failed(message.id, "request", str(error)))
            return
        except RequestRejected as error:
            self._refuse(Failed(message.id, "request", str(error), field=error.field))
            return
        if isinstance(item, Sequence):
            for _ in item.sampler.find_first_end():
                if message.id not in self._preparing:
                    break
                yield
        log_event(message.trace_id, "request prepared", seq=message.id, ms=(time.perf_counter() - started) * 1e3)
        with self._handover:
            if message.id in self._preparing:
                self._preparing.remove(message.id)
                self._inbox.put(item)
                if (late := self._early_grammars.pop(message.id, None)) is not None:
                    self._inbox.put(late)
                return
        if isinstance(item, Sequence):
            item.sampler.close()

    def _refuse(self, answer: Failed) -> None:
        with self._handover:
            self._preparing.discard(answer.id)
            self._early_grammars.pop(answer.id, None)
        self.send([answer])

    def _read(self) -> ToRunner:
        (size,) = FRAME_HEADER.unpack(self._read_exactly(FRAME_HEADER.size))
        if size > MAX_FRAME:
            raise ValueError("frame too large")
        message: ToRunner = to_runner_decoder.decode(self._read_exactly(size))
        return message

    def _read_exactly(self, size: int) -> bytearray:
        buffer = bytearray(size)
        view = memoryview(buffer)
        got = 0
        while got < size:
            try:
                n = self._sock.recv_into(view[got:])
            except OSError:  # it went without having read all that we sent
                n = 0
            if n == 0:
                self._leave()
            got += n
        return buffer


def _size(message: _TextMessage) -> int:
    """Size of a message's texts, in characters or tokens."""
    match message:
        case Submit():
            return len(message.prompt)
        case Embed():
            return sum(map(len, message.texts))
        case Rerank():
            return sum(len(message.query) + len(document) for document in message.documents)
        case Tokenize():
            return len(message.text)
        case Detokenize():
            return len(message.tokens)


def _start(name: str, run: Callable[[], None]) -> None:
    threading.Thread(target=run, name=name, daemon=True).start()


def _tokens(vocabulary: Vocabulary, message: Tokenize) -> Tokens:
    tokens = vocabulary.tokenize(message.text, add_special=message.add_special, parse_special=message.parse_special)
    if len(tokens) > message.limit:
        return Tokens(message.id, len(tokens))
    pieces = tuple(vocabulary.render(token, special=True) for token in tokens) if message.pieces else ()
    return Tokens(message.id, len(tokens), tokens.tobytes(), pieces)


def _item(
    vocabulary: Vocabulary, work: _Work | ReadPrompt, n_ctx: int, grammars: Grammars | None
) -> Sequence | PoolJob:
    """What the loops run for a request. Raises PromptRejected, RequestRejected and GrammarRejected."""
    match work:
        case Embed():
            return make_job(vocabulary, work)
        case Rerank():
            return make_rerank_job(vocabulary, work)
        case Submit():
            prompt = ReadPrompt(work, prompt_tokens(vocabulary, work), ())
            return _sequence(vocabulary, prompt, n_ctx, grammars)
        case ReadPrompt():
            return _sequence(vocabulary, work, n_ctx, grammars)


def _sequence(vocabulary: Vocabulary, prompt: ReadPrompt, n_ctx: int, grammars: Grammars | None) -> Sequence:
    message = prompt.message
    matcher = None
    if grammars is not None and message.grammar is not None:
        started = time.perf_counter()
        matcher = grammars.matcher(message.grammar)
        log_event(message.trace_id, "grammar compiled", seq=message.id, ms=(time.perf_counter() - started) * 1e3)
    return make_sequence(vocabulary, message, prompt.tokens, n_ctx, matcher, prompt.spans)
