"""SentencePiece vocabularies from tokenizer.model (llama.cpp's tokenizer `llama`), with a minimal protobuf reader."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping

from modelfile.convert.config import Config
from modelfile.convert.errors import ConvertError
from modelfile.convert.files import Files
from modelfile.convert.tokenizer_json import TOKENIZER_CONFIG, Added, TokenizerJson, added_by_text, added_in_config
from modelfile.convert.vocabulary import (
    MOST_TOKENS,
    Token,
    TokenizerVocabulary,
    TokenType,
    added_token,
    placed,
    vocabulary_size,
)
from modelfile.convert.writer import Metadata

TOKENIZER_MODEL = "tokenizer.model"
NO_PREFIX: Metadata = {"tokenizer.ggml.add_space_prefix": False}
"""By default llama.cpp puts a blank before the text."""

_TRAINED = (TokenType.UNKNOWN, TokenType.CONTROL, TokenType.BYTE)

# Field numbers of sentencepiece_model.proto.
_PIECE, _NORMALIZER = 1, 3
_TEXT, _SCORE, _TYPE = 1, 2, 3
_PREFIX = 3


def sentencepiece_vocabulary(files: Files, config: Config, tokenizer: TokenizerJson | None) -> TokenizerVocabulary:
    """The pieces of tokenizer.model and tokens added by other files. Raises ConvertError."""
    pieces, prefix = _read_model(files.read(TOKENIZER_MODEL))
    size = vocabulary_size(config, len(pieces))
    tokens = dict(enumerate(pieces[:size]))
    for added in _added(files, tokenizer, tokens):
        if added.id < size:
            tokens[added.id] = added_token(added.text, special=added.special)
    return TokenizerVocabulary("llama", "default", placed(size, tokens), scored=True, extra={} if prefix else NO_PREFIX)


def _read_model(data: bytes) -> tuple[list[Token], bool]:
    """The pieces, and whether text gets a leading blank."""
    pieces: list[Token] = []
    prefix = True
    try:
        for number, value in protobuf_fields(data):
            if number == _PIECE and len(pieces) < MOST_TOKENS:
                pieces.append(_piece(protobuf_message(value)))
            elif number == _NORMALIZER:
                prefix = protobuf_message(value).get(_PREFIX) != 0
    except (ProtobufError, KeyError, ValueError, struct.error) as error:
        raise ConvertError(f"{TOKENIZER_MODEL} is no SentencePiece model") from error
    if not pieces:
        raise ConvertError(f"{TOKENIZER_MODEL} is no SentencePiece model")
    return pieces, prefix


def _piece(fields: dict[int, int | bytes]) -> Token:
    text = protobuf_bytes(fields[_TEXT]).decode()
    kind = TokenType(int(fields.get(_TYPE, TokenType.NORMAL)))
    if kind is TokenType.USER_DEFINED:
        return added_token(text, special=False)
    (score,) = struct.unpack("<f", protobuf_bytes(fields.get(_SCORE, bytes(4))))
    return Token(text, kind, score)


def _added(files: Files, tokenizer: TokenizerJson | None, trained: Mapping[int, Token]) -> list[Added]:
    """Added tokens from all files that may list them; the last one of an id wins."""
    listed = added_in_config(files.object_if_there(TOKENIZER_CONFIG))
    if not listed and tokenizer is not None:
        also = tokenizer.added
        listed = [added for added in also if added.id not in trained or trained[added.id].type not in _TRAINED]
    return added_by_text(files.object_if_there("added_tokens.json")) + listed


_LONGEST_VARINT = 10  # bytes


class ProtobufError(ValueError):
    """Not a valid protobuf message."""


def protobuf_fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """(number, value) of each field: int for varints, else bytes. Raises ProtobufError."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        value: int | bytes
        if tag & 7 == 0:
            value, at = _varint(data, at)
        else:
            length, at = _field_length(data, at, tag & 7)
            if length > len(data) - at:
                raise ProtobufError("a field is longer than the message")
            value, at = data[at : at + length], at + length
        yield tag >> 3, value


def protobuf_message(value: int | bytes) -> dict[int, int | bytes]:
    """The fields of an embedded message; the last one of a number wins. Raises ProtobufError."""
    return dict(protobuf_fields(protobuf_bytes(value)))


def protobuf_bytes(value: int | bytes) -> bytes:
    """The bytes of a field. Raises ProtobufError for a varint."""
    if isinstance(value, int):
        raise ProtobufError("a number where bytes should be")
    return value


def _field_length(data: bytes, at: int, wire_type: int) -> tuple[int, int]:
    """Length and start of a field other than a varint."""
    match wire_type:
        case 1:
            return 8, at
        case 5:
            return 4, at
        case 2:
            return _varint(data, at)
    raise ProtobufError(f"wire type {wire_type}")


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for place, byte in enumerate(data[at : at + _LONGEST_VARINT]):
        value |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            return value, at + place + 1
    raise ProtobufError("a number does not end")
