"""The tokenizer metadata of a generative model: SentencePiece, byte-level BPE, or BPE with byte fallback."""

from __future__ import annotations

import re
from typing import Any

from modelfile.convert.config import Config
from modelfile.convert.errors import ConvertError
from modelfile.convert.files import Files
from modelfile.convert.pretokenizer import recognise
from modelfile.convert.sentencepiece import NO_PREFIX, TOKENIZER_MODEL, sentencepiece_vocabulary
from modelfile.convert.special import chat_template, special_tokens
from modelfile.convert.tokenizer_json import TOKENIZER_CONFIG, TokenizerJson, read_tokenizer_json, steps
from modelfile.convert.vocabulary import Token, TokenizerVocabulary, TokenType, added_token, placed, vocabulary_size
from modelfile.convert.writer import Metadata


def tokenizer_metadata(files: Files, config: Config) -> Metadata:
    """Vocabulary, special tokens and chat template. Raises ConvertError."""
    tokenizer = read_tokenizer_json(files)
    vocabulary = _vocabulary(files, config, tokenizer)
    ids = {} if tokenizer is None else {added.text: added.id for added in reversed(tokenizer.added)}
    settings = files.object_if_there(TOKENIZER_CONFIG)
    special = special_tokens(settings, tokenizer, config, ids, len(vocabulary.tokens))
    return vocabulary.metadata() | special | chat_template(files)


def _vocabulary(files: Files, config: Config, tokenizer: TokenizerJson | None) -> TokenizerVocabulary:
    if TOKENIZER_MODEL in files:
        return sentencepiece_vocabulary(files, config, tokenizer)
    if tokenizer is None:
        raise ConvertError("unknown tokenizer format")
    if tokenizer.kind != "BPE":
        raise ConvertError(f"a tokenizer of the type {tokenizer.kind} is not supported")
    if tokenizer.model.get("byte_fallback"):
        return byte_fallback_vocabulary(tokenizer, config)
    return bpe_vocabulary(tokenizer, config)


_BPE_BLANK = "\u0120"  # a blank in a byte-level vocabulary; a literal blank separates the halves of a merge


def bpe_vocabulary(tokenizer: TokenizerJson, config: Config) -> TokenizerVocabulary:
    """Byte-level BPE from tokenizer.json (llama.cpp's `gpt2`). Raises ConvertError."""
    tokens = {token_id: Token(text) for text, token_id in tokenizer.vocabulary.items()}
    tokens |= {added.id: added_token(added.text, special=added.special) for added in tokenizer.added}
    size = vocabulary_size(config, max(tokens, default=0) + 1)
    merges = [" ".join(half.replace(" ", _BPE_BLANK) for half in merge) for merge in tokenizer.merges]
    return TokenizerVocabulary(
        model="gpt2",
        pre=recognise(tokenizer),
        tokens=placed(size, tokens),
        extra={"tokenizer.ggml.merges": merges},
    )


_BYTE = re.compile(r"<0x[0-9A-Fa-f]{2}>")


def byte_fallback_vocabulary(tokenizer: TokenizerJson, config: Config) -> TokenizerVocabulary:
    """A SentencePiece vocabulary in tokenizer.json's form: BPE over characters with byte fallback.

    That form has merges instead of scores: the negated rank of the merge that makes a token is an equivalent score.
    Raises ConvertError.
    """
    merges = tokenizer.merges
    scores: dict[str, float] = {}
    for rank, (left, right) in enumerate(merges):
        scores.setdefault(left + right, float(-rank))
    unknown = tokenizer.model.get("unk_token")
    tokens = {
        token_id: Token(text, _token_type(text, unknown), scores.get(text, float(-len(merges))))
        for text, token_id in tokenizer.vocabulary.items()
    }
    tokens |= {added.id: added_token(added.text, special=added.special) for added in tokenizer.added}
    size = vocabulary_size(config, max(tokens, default=0) + 1)
    extra = {} if _prefixes(tokenizer) else NO_PREFIX
    return TokenizerVocabulary("llama", "default", placed(size, tokens), scored=True, extra=extra)


def _token_type(text: str, unknown: Any) -> TokenType:
    if text == unknown:
        return TokenType.UNKNOWN
    return TokenType.BYTE if _BYTE.fullmatch(text) else TokenType.NORMAL


def _prefixes(tokenizer: TokenizerJson) -> bool:
    """Whether text gets a leading blank: from the normalizer in older files, the pre-tokenizer in newer ones."""
    return any(step.get("type") == "Prepend" for step in steps(tokenizer.normalizer)) or any(
        step.get("type") == "Metaspace" and step.get("prepend_scheme", "always") != "never"
        for step in steps(tokenizer.pre_tokenizer)
    )
