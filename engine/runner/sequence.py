"""One generation request inside the child, from its prompt to its last token."""

from __future__ import annotations

from array import array
from collections.abc import Sequence as Seq
from dataclasses import dataclass

from engine.client import NOBODY, Client
from engine.messages import NO_LIMIT, Done, padded
from engine.runner.detokenizer import IncrementalDetokenizer
from engine.runner.disk_cache import Fetch
from engine.runner.known_tokens import Reuse
from engine.runner.logprobs import AnswerLogprobs, PromptLogprobs
from engine.runner.progress import ProgressNews
from engine.runner.projector import Span
from engine.runner.sampling import TokenSampler
from engine.runner.saved_state import SavedState
from engine.runner.speculative import Drafts
from engine.runner.streams import Cells

EARLY = 8  # a sequence asks for more context when the last such part of its own is reached,
LEAST_EARLY = 64  # or so many tokens are left
_STEADY = (Reuse.CHAT, Reuse.STEADY)


@dataclass(slots=True, eq=False)
class Sequence:
    """A request's tokens and how many of them the KV cache holds. Owned by the loop thread.

    `tokens`: prompt and answer; the last one sampled is not in the cache yet. `n_prompt`: length of the prompt, out of
    which `n_cut` tokens were cut. `limit`: tokens of context that this request may fill. `max_new`: most tokens of the
    answer, `num_predict` or so many contexts as `most_contexts`. `shift`: whether a full context continues without its
    middle; then `n_keep` tokens at its beginning stay. `preserved`: control tokens that count as text, with their
    bytes. `n_threads`, `n_batch`: what the request asks for, or 0. `trace_id`: the request's id in the log. `logprobs`:
    those that its client has not yet, None if it does not ask. `prompt_logprobs`: those of the prompt, None if nobody
    asks or they are sent. `reuse`: the cells of others that it may begin with, if they have the same `owner`. `grows`:
    before its context is full it asks for more; then it is `asking` until it is told. `spans`: the places of media in
    the prompt. `cells`: its own, None before it runs; while it is suspended, `saved` is their state. `border`: a
    checkpoint is made once so many tokens are computed, 0 for none. `n_reused`: prompt tokens that the cache held at
    admission, in its `tier`, when it had been `queued` for so many seconds; -1 before. Times are in `time.perf_counter`
    seconds, 0 before the event. `paused`: its reader is far behind. `progress`: what its client is told of it, None if
    that does not ask, or once its prompt is computed. `sought`: states on disk were looked through for it; the one
    that it waits for, or was given, is `fetch`. `most_drafted`: tokens that may be drafted for a pass, 0 for none;
    `drafts`: how that goes, None before the first one.
    """

    id: int
    tokens: array[int]
    n_prompt: int
    limit: int
    max_new: int
    shift: bool
    n_keep: int
    sampler: TokenSampler
    text: IncrementalDetokenizer
    preserved: dict[int, bytes]
    num_predict: int = NO_LIMIT
    most_contexts: int = 1
    n_cut: int = 0
    n_threads: int = 0
    n_batch: int = 0
    trace_id: str = ""
    client: Client = NOBODY
    owner: str = ""
    logprobs: AnswerLogprobs | None = None
    prompt_logprobs: PromptLogprobs | None = None
    progress: ProgressNews | None = None
    reuse: Reuse = Reuse.ANY
    spans: tuple[Span, ...] = ()
    grows: bool = False
    paused: bool = False
    asking: bool = False
    most_drafted: int = 0
    drafts: Drafts | None = None
    cells: Cells | None = None
    saved: SavedState | None = None
    sought: bool = False
    fetch: Fetch | None = None
    border: int = 0
    n_reused: int = -1
    tier: str = ""
    queued: float = 0.0
    n_generated: int = 0
    arrived: float = 0.0
    first_pass: float = 0.0
    last_pass: float = 0.0
    prompt_done: float = 0.0

    @property
    def n_cached(self) -> int:
        """Tokens that its cells hold."""
        return 0 if self.cells is None else self.cells.cached

    @property
    def position(self) -> int:
        """The position of the first token that its cells do not hold; it must be no row of a span."""
        if not self.spans:
            return self.n_cached
        before = [span for span in self.spans if span.end <= self.n_cached]
        return self.n_cached - sum(span.chunk.n_tokens - span.chunk.n_pos for span in before)

    @property
    def spans_ahead(self) -> tuple[Span, ...]:
        """The spans of which its cells do not hold all rows."""
        return tuple(span for span in self.spans if span.end > self.n_cached)

    @property
    def steady(self) -> bool:
        """Whether its numbers must be the same each time, so its prompt is computed in chunks between fixed borders."""
        return self.reuse in _STEADY

    @property
    def n_pending(self) -> int:
        """Tokens that are not in the cache yet: 1 while decoding, more while prefilling."""
        return len(self.tokens) - self.n_cached

    @property
    def decoding(self) -> bool:
        """Whether the next pass needs only its last token."""
        return self.n_generated > 0 and len(self.tokens) - self.n_cached == 1

    @property
    def ready(self) -> bool:
        """Whether it is decoding and need not wait."""
        cells = self.cells
        if cells is None or len(self.tokens) - cells.cached != 1 or not self.n_generated:
            return False
        return not self.waits

    @property
    def full(self) -> bool:
        """Whether its context has no room for another token."""
        return len(self.tokens) >= self.limit

    @property
    def draft_room(self) -> int:
        """How many tokens may be drafted for it now: those that would not end the answer by their number alone."""
        return min(self.most_drafted, self.max_new - self.n_generated - 1, self.limit - len(self.tokens) - 1)

    @property
    def wants_room(self) -> bool:
        """Whether it should ask for more context now: early, so that it need not stop for the answer."""
        if not self.grows or self.asking or self.n_prompt + self.max_new <= self.limit:
            return False
        return len(self.tokens) >= self.limit - max(self.limit // EARLY, LEAST_EARLY)

    @property
    def waits(self) -> bool:
        """Whether it cannot go on before something comes: its reader, a grammar, or more context."""
        return self.paused or self.sampler.waits or (self.asking and self.full)

    def extend(self, num_ctx: int) -> None:
        """Note how many tokens of context it may fill: the answer to its asking. If not more, it asks no more."""
        limit = padded(num_ctx)
        self.asking = False
        self.grows = limit > self.limit
        if self.grows:
            self.limit = limit
            self.max_new = min(self.num_predict, self.most_contexts * num_ctx)
            left = self.max_new - self.n_generated
            self.sampler.set_budget(left if self.shift else min(left, limit - len(self.tokens)))
            self.sampler.set_context(limit, text_tokens(self.tokens, self.spans))

    @property
    def slot(self) -> int:
        """llama.cpp's id of its stream; it must have one."""
        assert self.cells is not None
        return self.cells.slot

    def advance(self, count: int) -> None:
        """Note that its cells hold `count` tokens more."""
        assert self.cells is not None
        self.cells.cached += count

    def mark_on_grid(self, start: int) -> None:
        """Note that its tokens from `start` to the last cached one were computed in a whole chunk of the grid."""
        assert self.cells is not None
        if self.cells.known.on_grid == start:
            self.cells.known.on_grid = self.cells.cached

    def accept(self, token: int) -> None:
        """Append the token just sampled."""
        self.tokens.append(token)
        self.n_generated += 1

    def done(self, reason: str, now: float) -> Done:
        """The message that ends the answer; `now` in perf_counter seconds."""
        prompt_done = self.prompt_done or now
        return Done(
            id=self.id,
            reason="length" if reason == "length" else "stop",
            prompt_tokens=self.n_prompt,
            prompt_cached=max(self.n_reused, 0),
            prompt_ns=round((prompt_done - (self.first_pass or prompt_done)) * 1e9),
            tokens=self.n_generated,
            tokens_ns=round((now - prompt_done) * 1e9),
            stop=self.text.stop,
            prompt_cut=self.n_cut,
            queued_ns=round(self.queued * 1e9),
            tier=self.tier,
        )


def text_tokens(tokens: array[int], spans: tuple[Span, ...]) -> Seq[int]:
    """A prompt's tokens without the rows of its media, if it has `spans`: those that samplers look back on."""
    return [token for token in tokens if token >= 0] if spans else tokens
