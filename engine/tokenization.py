"""Divides texts into tokens, and writes tokens as text."""

from __future__ import annotations

from array import array

from engine.api import Detokenized, DetokenizeRequest, Tokenized, TokenizeRequest
from engine.errors import InvalidRequest
from engine.loading.process import RunnerProcess
from engine.messages import Tokenize

MOST_CHARACTERS = 4 << 20  # of a text that is divided
MOST_LISTED = 1 << 20  # tokens of one answer; a request cannot have more either


async def tokenize(process: RunnerProcess, request: TokenizeRequest, load_duration: int) -> Tokenized:
    """The tokens of a text; `load_duration` is in nanoseconds.

    Raises InvalidRequest for a text that is too long, and what `RunnerProcess.ask_tokens` raises.
    """
    if len(request.text) > MOST_CHARACTERS:
        raise InvalidRequest(f"the text is too long: {len(request.text)} characters, at most {MOST_CHARACTERS}")
    message = Tokenize(
        id=0,
        text=request.text,
        add_special=request.add_special,
        parse_special=request.parse_special,
        limit=MOST_LISTED,
        pieces=request.pieces,
    )
    reply = await process.ask_tokens(message)
    if reply.count > MOST_LISTED:
        raise InvalidRequest(f"the text is too long: {reply.count} tokens, at most {MOST_LISTED} are listed")
    assert process.loaded is not None
    return Tokenized(
        tokens=array("i", reply.tokens).tolist(),
        pieces=list(reply.pieces),
        context_length=process.loaded.n_ctx,
        load_duration=load_duration,
    )


async def detokenize(process: RunnerProcess, request: DetokenizeRequest, load_duration: int) -> Detokenized:
    """The text of tokens; `load_duration` is in nanoseconds.

    Raises InvalidRequest, which names the place, for a number that is no token, and what `RunnerProcess.ask_text`
    raises.
    """
    if len(request.tokens) > MOST_LISTED:
        raise InvalidRequest(f"too many tokens: {len(request.tokens)}, at most {MOST_LISTED} are accepted", "tokens")
    reply = await process.ask_text(request.tokens)
    if reply.invalid >= 0:
        raise InvalidRequest(f"tokens[{reply.invalid}] is not a token of this model", "tokens")
    return Detokenized(text=reply.text, load_duration=load_duration)
