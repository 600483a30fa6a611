"""A grammar that sleeps until its answer comes to a trigger: the calls that a model begins by itself."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from engine.messages import Triggers
from engine.runner.call_watch import CallWatch, Trigger
from engine.runner.forced_end import EndFinder
from engine.runner.matcher import TokenMask
from engine.runner.penalties import Logits

if TYPE_CHECKING:
    from llguidance import LLMatcher


@dataclass(frozen=True, slots=True)
class CallGrammar:
    """A compiled grammar: its `start`, which only one answer uses; `writer` knows which tokens write a text."""

    start: LLMatcher
    writer: EndFinder
    mask: TokenMask


class LazyMatcher:
    """How far one answer has come in the grammar of its calls. Made on any thread, then owned by the loop thread.

    Asleep it costs a search in a few bytes for each token. A trigger wakes it: the grammar gets the text from the
    trigger's start on, and sleeps again at its end. Text that does not suit the grammar stays free: nothing fails here.
    `text_of` gives a token's bytes in the answer. The grammar comes later, by `set_grammar`; an answer that needs it
    before `waits`. `held`: the last token belongs to a call that suits the grammar. The `fault` of other
    grammars does not occur.
    """

    fault = ""

    def __init__(self, triggers: Triggers, text_of: Callable[[int], bytes]) -> None:
        self._watch = CallWatch(triggers)
        self._once = triggers.once
        self._text_of = text_of
        self._grammar: CallGrammar | None = None
        self._recent: deque[tuple[int, bytes]] = deque()  # tokens whose text the watch may still need
        self._missed: Trigger | None = None  # what came before the grammar
        self._matcher: LLMatcher | None = None
        self.finished = False
        self.held = False
        self.cut_short = False

    @property
    def awake(self) -> bool:
        """Whether the next token must suit the grammar."""
        return self._matcher is not None

    @property
    def waits(self) -> bool:
        """Whether the answer cannot go on before the grammar is there."""
        return self._missed is not None

    def set_grammar(self, grammar: CallGrammar) -> None:
        """Use this grammar from now on."""
        self._grammar = grammar
        if self._missed is not None:
            self._wake(grammar, self._missed, sampled=False)
            self._missed = None

    def restrict(self, row: Logits) -> None:
        """Set the logits of all tokens that may not follow to -inf, in place, if it is awake."""
        if self._matcher is not None and self._grammar is not None and self._grammar.mask.apply(self._matcher, row):
            self._sleep()

    def accept(self, token: int) -> int:
        """Advance by the sampled token; returns it or, where it goes on wrongly behind a trigger, its beginning."""
        if self._matcher is not None:
            if not self._matcher.consume_token(token) or self._matcher.is_stopped() or self._matcher.is_accepting():
                self.finished = self._once and not self._matcher.is_error()
                self._sleep()
            return token
        self.held = False
        text = self._text_of(token)
        if not text or self._watch.over:
            return token
        self._recent.append((token, text))
        trigger = self._watch.feed(text)
        if trigger is not None and self._grammar is not None:
            token = self._wake(self._grammar, trigger, sampled=True)
        elif trigger is not None:
            self._missed = trigger
        self._forget()
        return token

    def leave_loop(self) -> bool:
        """Always False: an answer that repeats itself ends as it is, `cut_short` if that is within a call."""
        self.cut_short = self.awake
        return False

    def _wake(self, grammar: CallGrammar, trigger: Trigger, *, sampled: bool) -> int:
        """Give the grammar the text since the trigger's start.

        Returns the last token or, if it has just been sampled and another one suits better, that.
        """
        *before, (token, text) = self._recent
        ways: list[tuple[int, bytes]] = [(token, text)]
        if sampled:
            ways += _beginnings(grammar, text, trigger.behind)
        for way, written in ways:
            tokens = _last(grammar, [*before, (way, written)], trigger.length - len(text) + len(written))
            if tokens is not None and grammar.start.validate_tokens(tokens) == len(tokens):
                self._matcher = grammar.start.deep_copy()
                self._matcher.consume_tokens(tokens)
                self._recent.clear()
                self.held = True
                return way
        return token

    def _forget(self) -> None:
        """Drop the tokens that are not needed any more."""
        needed = self._watch.kept if self._missed is None else self._missed.length
        held = sum(len(text) for _, text in self._recent)
        while self._recent and held - len(self._recent[0][1]) >= needed:
            held -= len(self._recent.popleft()[1])

    def _sleep(self) -> None:
        self._matcher = None
        self._watch.restart()


def _beginnings(grammar: CallGrammar, text: bytes, most: int) -> Iterator[tuple[int, bytes]]:
    """The tokens that are the text without its end of at most `most` bytes, the longest first."""
    for end in range(len(text) - 1, len(text) - most - 1, -1):
        if (token := grammar.writer.token(text[:end])) is not None:
            yield token, text[:end]


def _last(grammar: CallGrammar, recent: Sequence[tuple[int, bytes]], length: int) -> list[int] | None:
    """The tokens of the last `length` bytes; None if they begin within a token whose rest cannot be written."""
    tokens: list[int] = []
    for token, text in reversed(recent):
        if length < len(text):
            rest = grammar.writer.split(text[len(text) - length :])
            return None if rest is None else rest + tokens
        tokens.insert(0, token)
        length -= len(text)
        if not length:
            break
    return tokens
