"""From a submitted prompt to a sequence: the last checks that need its tokens."""

from __future__ import annotations

from array import array

from engine.messages import Submit
from engine.runner.context import Context
from engine.runner.sampling import TokenSampler
from engine.runner.sequence import Sequence
from engine.runner.text import TextStream

PADDING = 256  # llama.cpp rounds a context up to a multiple of this


class PromptRejected(ValueError):
    """The prompt does not fit its context and may not be cut; the message is for the user."""


def padded(n_ctx: int) -> int:
    """The context that llama.cpp really makes for `n_ctx` tokens."""
    return -(-n_ctx // PADDING) * PADDING


def make_sequence(context: Context, submit: Submit, tokens: array[int], n_ctx: int) -> Sequence:
    """Cut or reject an over-long prompt, then build the sequence with its sampler. Raises PromptRejected."""
    limit = min(padded(submit.num_ctx), n_ctx)
    keep = _kept(submit, len(tokens), limit, context.adds_bos)
    if submit.overflow == "cut":
        tokens = _cut(tokens, submit, context.adds_bos)
    if len(tokens) >= limit:
        raise PromptRejected(
            f"request ({len(tokens)} tokens) exceeds the available context size ({limit} tokens), try increasing it"
        )
    if not tokens:
        raise PromptRejected("the prompt has no tokens")
    sampler = TokenSampler(submit.sampling, context.vocab, context.n_vocab, limit, tokens)
    return Sequence(
        id=submit.id,
        tokens=tokens,
        n_prompt=len(tokens),
        limit=limit,
        submit=submit,
        sampler=sampler,
        text=TextStream(submit.stop),
        n_keep=keep,
    )


def _kept(submit: Submit, n_prompt: int, limit: int, adds_bos: bool) -> int:
    """Tokens at the beginning that a context shift leaves alone."""
    wanted = n_prompt if submit.num_keep < 0 else submit.num_keep + adds_bos
    return max(0, min(wanted, limit - 4))


def _cut(tokens: array[int], submit: Submit, adds_bos: bool) -> array[int]:
    """Take the middle out of a prompt that fills its context: the first `num_keep` tokens and the newest stay."""
    n_ctx = submit.num_ctx
    if len(tokens) <= n_ctx - 1:
        return tokens
    if not submit.shift:
        raise PromptRejected(
            "the prompt is longer than the context length currently available to the model; shorten the prompt, "
            "adjust the context length in settings, or use a model with a longer context length"
        )
    keep = len(tokens) if submit.num_keep < 0 else submit.num_keep + adds_bos
    keep = max(0, min(keep, n_ctx - 1))
    total = n_ctx - max((n_ctx - keep) // 2, 1)
    return tokens[:keep] + tokens[len(tokens) - (total - keep) :]
