"""All that a GGUF says about the tokenizer of a generative model."""

from __future__ import annotations

from modelfile.convert.bpe import bpe_vocabulary
from modelfile.convert.byte_fallback import byte_fallback_vocabulary
from modelfile.convert.config import Config
from modelfile.convert.errors import ConvertError
from modelfile.convert.files import Files
from modelfile.convert.metadata import Metadata
from modelfile.convert.sentencepiece import TOKENIZER_MODEL, sentencepiece_vocabulary
from modelfile.convert.special import chat_template, special_tokens
from modelfile.convert.tokenizer_json import TOKENIZER_CONFIG, TokenizerJson, read_tokenizer_json
from modelfile.convert.vocabulary import Vocabulary


def tokenizer_metadata(files: Files, config: Config) -> Metadata:
    """Vocabulary, special tokens and chat template. Raises ConvertError."""
    tokenizer = read_tokenizer_json(files)
    vocabulary = _vocabulary(files, config, tokenizer)
    ids = {} if tokenizer is None else {added.text: added.id for added in reversed(tokenizer.added)}
    settings = files.object_if_there(TOKENIZER_CONFIG)
    special = special_tokens(settings, tokenizer, config, ids, len(vocabulary.tokens))
    return vocabulary.metadata() | special | chat_template(files)


def _vocabulary(files: Files, config: Config, tokenizer: TokenizerJson | None) -> Vocabulary:
    if TOKENIZER_MODEL in files:
        return sentencepiece_vocabulary(files, config, tokenizer)
    if tokenizer is None:
        raise ConvertError("unknown tokenizer format")
    if tokenizer.kind != "BPE":
        raise ConvertError(f"a tokenizer of the type {tokenizer.kind} is not supported")
    if tokenizer.model.get("byte_fallback"):
        return byte_fallback_vocabulary(tokenizer, config)
    return bpe_vocabulary(tokenizer, config)
