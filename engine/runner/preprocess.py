"""A submitted prompt becomes a sequence: the checks that need its tokens."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Mapping
from functools import partial

from engine.errors import PROMPT_TOO_LONG, context_exceeded
from engine.messages import NO_LIMIT, Sampling, Submit, padded
from engine.runner.detokenizer import IncrementalDetokenizer
from engine.runner.known_tokens import Reuse
from engine.runner.lazy_matcher import LazyMatcher
from engine.runner.logprobs import AnswerLogprobs, PromptLogprobs
from engine.runner.matcher import Matcher
from engine.runner.progress import ProgressNews
from engine.runner.projector import Span
from engine.runner.sampling import TokenSampler
from engine.runner.sequence import Sequence, text_tokens
from engine.runner.thinking_budget import ThinkingBudget
from engine.runner.vocabulary import Vocabulary

LEAST_AFTER_KEEP = 4  # tokens behind `num_keep`, so that a context shift always has something to drop
MOST_SCORED = 8  # tokens of a prompt in one pass if each has logits, which take memory
NO_LIMIT_FACTOR = 10  # an answer without num_predict ends after this many contexts, under a grammar after one


class PromptRejected(ValueError):
    """The prompt does not fit its context and may not be cut: `tokens` that it has, and the `limit`; 0 if unknown.

    The message is for users.
    """

    def __init__(self, text: str, tokens: int = 0, limit: int = 0) -> None:
        super().__init__(text)
        self.tokens = tokens
        self.limit = limit


class RequestRejected(ValueError):
    """The request is wrong, in its `field` of `engine.api`. The message is for users."""

    def __init__(self, text: str, field: str) -> None:
        super().__init__(text)
        self.field = field


def make_sequence(
    vocabulary: Vocabulary,
    submit: Submit,
    tokens: array[int],
    n_ctx: int,
    matcher: Matcher | None = None,
    spans: tuple[Span, ...] = (),
) -> Sequence:
    """Cut or reject a prompt that is too long or has no room, then make the sequence and its sampler.

    `n_ctx` is the loaded context in tokens, padded; `matcher` constrains the answer to a grammar. Nothing is
    ever cut out of a sequence with `spans`. Raises PromptRejected and RequestRejected.
    """
    shift = submit.shift and not spans
    limit = min(padded(submit.num_ctx), n_ctx)
    n_sent = len(tokens)
    if submit.room and n_sent + submit.room > min(submit.num_ctx, n_ctx):
        raise PromptRejected(context_exceeded(n_sent, limit), n_sent, limit - 1)
    keep = _kept(submit, n_sent, vocabulary.adds_bos)
    if submit.overflow == "cut" and not spans:
        tokens = _cut(tokens, keep, min(submit.num_ctx, n_ctx), shift=submit.shift)
    if len(tokens) >= limit:
        raise PromptRejected(context_exceeded(len(tokens), limit), len(tokens), limit - 1)
    if not tokens:
        raise RequestRejected("the prompt has no tokens", "prompt")
    limited = submit.num_predict > 0
    most_contexts = NO_LIMIT_FACTOR if matcher is None or limited else 1
    num_predict = submit.num_predict if limited else NO_LIMIT
    max_new = min(num_predict, most_contexts * submit.num_ctx)
    preserved = vocabulary.preserved(submit.preserved)
    grammar: Matcher | LazyMatcher | None = matcher
    if submit.triggers is not None:
        grammar = LazyMatcher(submit.triggers, lambda token: preserved.get(token) or vocabulary.piece(token))
    if matcher is not None:
        matcher.set_budget(max_new if shift else min(max_new, limit - len(tokens)))
    logprobs = _logprobs(submit, vocabulary, preserved)
    sampler = TokenSampler(
        submit.sampling,
        vocabulary.handle,
        vocabulary.size,
        limit,
        text_tokens(tokens, spans),
        grammar,
        _thinking_budget(submit, vocabulary, preserved),
        logprobs,
    )
    prompt_logprobs = _prompt_logprobs(submit, vocabulary, tokens)
    return Sequence(
        id=submit.id,
        tokens=tokens,
        n_prompt=len(tokens),
        n_cut=n_sent - len(tokens),
        limit=limit,
        max_new=max_new,
        num_predict=num_predict,
        most_contexts=most_contexts,
        shift=shift,
        n_keep=max(0, min(keep, limit - LEAST_AFTER_KEEP)),
        sampler=sampler,
        text=IncrementalDetokenizer(submit.stop),
        preserved=preserved,
        n_threads=submit.num_thread,
        n_batch=min(submit.num_batch or MOST_SCORED, MOST_SCORED) if submit.prompt_logprobs else submit.num_batch,
        trace_id=submit.trace_id,
        client=submit.client,
        owner=submit.cache_owner,
        logprobs=logprobs,
        prompt_logprobs=prompt_logprobs,
        progress=ProgressNews() if submit.progress else None,
        grows=submit.grows,
        most_drafted=0 if submit.sampling.seed >= 0 else submit.most_drafted,
        reuse=Reuse.NONE if prompt_logprobs is not None else _reuse(submit.sampling),
        spans=spans,
    )


def _reuse(sampling: Sampling) -> Reuse:
    """What a sequence may begin with: one whose text is to be the same each time is not to depend on the others."""
    if sampling.seed >= 0:
        return Reuse.STEADY
    return Reuse.CHAT if sampling.temperature <= 0 else Reuse.ANY


def prompt_tokens(vocabulary: Vocabulary, submit: Submit) -> array[int]:
    """The tokens of a prompt: those that were sent, else those of its text. Raises RequestRejected."""
    if not submit.tokens:
        return vocabulary.tokenize(submit.prompt, add_special=True)
    if wrong := [token for token in submit.tokens if not 0 <= token < vocabulary.size]:
        raise RequestRejected(f"prompt has {wrong[0]}, which is no token: ids are 0 to {vocabulary.size - 1}", "prompt")
    return array("i", submit.tokens)


def _prompt_logprobs(submit: Submit, vocabulary: Vocabulary, tokens: array[int]) -> PromptLogprobs | None:
    if not submit.prompt_logprobs:
        return None
    if submit.media:
        raise RequestRejected("prompt_logprobs cannot be computed for prompts with images or sounds", "prompt_logprobs")
    return PromptLogprobs(tokens, partial(vocabulary.render, special=True), submit.top_logprobs)


def _logprobs(submit: Submit, vocabulary: Vocabulary, preserved: Mapping[int, bytes]) -> AnswerLogprobs | None:
    return AnswerLogprobs(_text_of(vocabulary, preserved), submit.top_logprobs) if submit.logprobs else None


def _thinking_budget(submit: Submit, vocabulary: Vocabulary, preserved: Mapping[int, bytes]) -> ThinkingBudget | None:
    if submit.thinking is None:
        return None
    tokenize = partial(vocabulary.tokenize, add_special=False)
    return ThinkingBudget(submit.thinking, _text_of(vocabulary, preserved), tokenize)


def _text_of(vocabulary: Vocabulary, preserved: Mapping[int, bytes]) -> Callable[[int], bytes]:
    """Gives the bytes that a token adds to the answer's text."""
    return lambda token: preserved.get(token) or vocabulary.piece(token)


def _kept(submit: Submit, n_prompt: int, adds_bos: bool) -> int:
    """How many leading tokens are never cut out: `num_keep`, plus the start token that the tokenizer adds."""
    return n_prompt if submit.num_keep < 0 else submit.num_keep + adds_bos


def _cut(tokens: array[int], keep: int, n_ctx: int, *, shift: bool) -> array[int]:
    """Take the middle out of a prompt that fills its context; its first `keep` tokens and the newest ones stay."""
    if len(tokens) <= n_ctx - 1:
        return tokens
    if not shift:
        raise PromptRejected(PROMPT_TOO_LONG, len(tokens), n_ctx - 1)
    keep = max(0, min(keep, n_ctx - 1))
    total = n_ctx - max((n_ctx - keep) // 2, 1)
    return tokens[:keep] + tokens[len(tokens) - (total - keep) :]
