"""Byte-level BPE from tokenizer.json: llama.cpp's model `gpt2`."""

from __future__ import annotations

from modelfile.convert.config import Config
from modelfile.convert.pretokenizer import recognise
from modelfile.convert.tokenizer_json import TokenizerJson
from modelfile.convert.vocabulary import Token, Vocabulary, added_token, placed, vocabulary_size

_BLANK = "\u0120"  # what a byte-level vocabulary writes for a blank, which separates the halves of a merge


def bpe_vocabulary(tokenizer: TokenizerJson, config: Config) -> Vocabulary:
    """All tokens, and the merges in order of their rank. Raises ConvertError, also for an unknown pre-tokenizer."""
    tokens = {id: Token(text) for text, id in tokenizer.vocabulary.items()}
    tokens |= {added.id: added_token(added.text, special=added.special) for added in tokenizer.added}
    size = vocabulary_size(config, max(tokens, default=0) + 1)
    merges = [" ".join(half.replace(" ", _BLANK) for half in merge) for merge in tokenizer.merges]
    return Vocabulary(
        model="gpt2",
        pre=recognise(tokenizer),
        tokens=placed(size, tokens),
        extra={"tokenizer.ggml.merges": merges},
    )
