"""SentencePiece vocabularies from tokenizer.model: llama.cpp's model `llama`."""

from __future__ import annotations

import struct
from collections.abc import Mapping

from modelfile.convert.config import Config
from modelfile.convert.errors import ConvertError
from modelfile.convert.files import Files
from modelfile.convert.metadata import Metadata
from modelfile.convert.protobuf import ProtobufError, content, fields, message
from modelfile.convert.tokenizer_json import TOKENIZER_CONFIG, Added, TokenizerJson, added_by_text, added_in_config
from modelfile.convert.vocabulary import MOST_TOKENS, Token, TokenType, Vocabulary, added_token, placed, vocabulary_size

TOKENIZER_MODEL = "tokenizer.model"
NO_PREFIX: Metadata = {"tokenizer.ggml.add_space_prefix": False}
"""Said only where it is so: else the runner puts a blank before a text."""

_TRAINED = (TokenType.UNKNOWN, TokenType.CONTROL, TokenType.BYTE)

# Numbers of fields in SentencePiece's own description of its files.
_PIECE, _NORMALIZER = 1, 3
_TEXT, _SCORE, _TYPE = 1, 2, 3
_PREFIX = 3


def sentencepiece_vocabulary(files: Files, config: Config, tokenizer: TokenizerJson | None) -> Vocabulary:
    """The pieces of tokenizer.model and what other files add to them. Raises ConvertError."""
    pieces, prefix = _read_model(files.read(TOKENIZER_MODEL))
    size = vocabulary_size(config, len(pieces))
    tokens = dict(enumerate(pieces[:size]))
    for added in _added(files, tokenizer, tokens):
        if added.id < size:
            tokens[added.id] = added_token(added.text, special=added.special)
    return Vocabulary("llama", "default", placed(size, tokens), scored=True, extra={} if prefix else NO_PREFIX)


def _read_model(data: bytes) -> tuple[list[Token], bool]:
    """The pieces, and whether a text gets a blank before it."""
    pieces: list[Token] = []
    prefix = True
    try:
        for number, value in fields(data):
            if number == _PIECE and len(pieces) < MOST_TOKENS:
                pieces.append(_piece(message(value)))
            elif number == _NORMALIZER:
                prefix = message(value).get(_PREFIX) != 0
    except (ProtobufError, KeyError, ValueError, struct.error) as error:
        raise ConvertError(f"{TOKENIZER_MODEL} is no SentencePiece model") from error
    if not pieces:
        raise ConvertError(f"{TOKENIZER_MODEL} is no SentencePiece model")
    return pieces, prefix


def _piece(found: dict[int, int | bytes]) -> Token:
    text = content(found[_TEXT]).decode()
    kind = TokenType(int(found.get(_TYPE, TokenType.NORMAL)))
    if kind is TokenType.USER_DEFINED:
        return added_token(text, special=False)
    (score,) = struct.unpack("<f", content(found.get(_SCORE, bytes(4))))
    return Token(text, kind, score)


def _added(files: Files, tokenizer: TokenizerJson | None, trained: Mapping[int, Token]) -> list[Added]:
    """Added tokens from all the places where they may be listed; the last of an id counts."""
    listed = added_in_config(files.object_if_there(TOKENIZER_CONFIG))
    if not listed and tokenizer is not None:
        also = tokenizer.added
        listed = [added for added in also if added.id not in trained or trained[added.id].type not in _TRAINED]
    return added_by_text(files.object_if_there("added_tokens.json")) + listed
