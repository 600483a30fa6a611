"""A SentencePiece vocabulary as tokenizer.json writes it: BPE over characters, with bytes for what it does not know.

That form has no scores. SentencePiece merges by score and tokenizer.json by the rank of a merge, so the rank of the
merge that makes a token, negated, is a score that gives the same tokens.
"""

from __future__ import annotations

import re
from typing import Any

from modelfile.convert.config import Config
from modelfile.convert.sentencepiece import NO_PREFIX
from modelfile.convert.tokenizer_json import TokenizerJson, steps
from modelfile.convert.vocabulary import Token, TokenType, Vocabulary, added_token, placed, vocabulary_size

_BYTE = re.compile(r"<0x[0-9A-Fa-f]{2}>")


def byte_fallback_vocabulary(tokenizer: TokenizerJson, config: Config) -> Vocabulary:
    """All tokens with their scores. Raises ConvertError."""
    merges = tokenizer.merges
    scores: dict[str, float] = {}
    for rank, (left, right) in enumerate(merges):
        scores.setdefault(left + right, float(-rank))
    unknown = tokenizer.model.get("unk_token")
    tokens = {
        id: Token(text, _type(text, unknown), scores.get(text, float(-len(merges))))
        for text, id in tokenizer.vocabulary.items()
    }
    tokens |= {added.id: added_token(added.text, special=added.special) for added in tokenizer.added}
    size = vocabulary_size(config, max(tokens, default=0) + 1)
    extra = {} if _prefixes(tokenizer) else NO_PREFIX
    return Vocabulary("llama", "default", placed(size, tokens), scored=True, extra=extra)


def _type(text: str, unknown: Any) -> TokenType:
    if text == unknown:
        return TokenType.UNKNOWN
    return TokenType.BYTE if _BYTE.fullmatch(text) else TokenType.NORMAL


def _prefixes(tokenizer: TokenizerJson) -> bool:
    """Whether a text gets a blank before it: by the normalizer in older files, by the pre-tokenizer in newer ones."""
    return any(step.get("type") == "Prepend" for step in steps(tokenizer.normalizer)) or any(
        step.get("type") == "Metaspace" and step.get("prepend_scheme", "always") != "never"
        for step in steps(tokenizer.pre_tokenizer)
    )
