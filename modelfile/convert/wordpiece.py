"""WordPiece vocabularies from tokenizer.json or vocab.txt (llama.cpp's tokenizer `bert`).

WordPiece marks pieces that continue a word with `##`; llama.cpp marks those that begin one, as SentencePiece does.
Tokens in brackets have no mark.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from modelfile.convert.config import Config
from modelfile.convert.errors import ConvertError
from modelfile.convert.files import Files
from modelfile.convert.tokenizer_json import TOKENIZER_CONFIG, TokenizerJson, steps
from modelfile.convert.vocabulary import MOST_TOKENS, Token, TokenizerVocabulary, TokenType, placed, vocabulary_size
from modelfile.convert.writer import Metadata

VOCAB_TXT = "vocab.txt"
SPECIAL = {
    "unk_token": "[UNK]",
    "sep_token": "[SEP]",
    "pad_token": "[PAD]",
    "cls_token": "[CLS]",
    "mask_token": "[MASK]",
}
"""Default special tokens of a WordPiece model."""

_BEGIN = "\u2581"


def wordpiece_vocabulary(
    files: Files, config: Config, tokenizer: TokenizerJson | None
) -> tuple[TokenizerVocabulary, dict[str, int]]:
    """The vocabulary, and token ids by original text. Raises ConvertError."""
    if tokenizer is not None:
        ids = _of_json(tokenizer)
        controls = {added.text for added in tokenizer.added if added.special}
        normalizer = _normalizer(tokenizer.normalizer)
    else:
        ids = {text: token_id for token_id, text in enumerate(_lines(files.text(VOCAB_TXT)))}
        controls = set(SPECIAL.values())
        lowercase = files.object_if_there(TOKENIZER_CONFIG).get("do_lower_case", True)
        normalizer = {"tokenizer.ggml.normalizer.lowercase": bool(lowercase)}
    tokens = {token_id: _token(text, control=text in controls) for text, token_id in ids.items()}
    size = vocabulary_size(config, max(tokens, default=0) + 1)
    return TokenizerVocabulary(
        "bert", "default", [_marked(token) for token in placed(size, tokens)], extra=normalizer
    ), ids


def _of_json(tokenizer: TokenizerJson) -> dict[str, int]:
    if tokenizer.kind != "WordPiece":
        raise ConvertError(f"a tokenizer of the type {tokenizer.kind} is not supported here: only WordPiece is")
    return tokenizer.vocabulary | {added.text: added.id for added in tokenizer.added}


def _lines(text: str) -> list[str]:
    return [line.rstrip("\r") for line in text.removesuffix("\n").split("\n", MOST_TOKENS)]


def _token(text: str, *, control: bool) -> Token:
    if control:
        return Token(text, TokenType.CONTROL)
    if text.startswith("[") and text.endswith("]"):
        return Token(text)
    return Token(text.removeprefix("##") if text.startswith("##") else _BEGIN + text)


def _marked(token: Token) -> Token:
    """Mark placeholders as words, so that text in brackets cannot match one."""
    return replace(token, text=_BEGIN + token.text) if token.type is TokenType.UNUSED else token


def _normalizer(setting: Mapping[str, Any]) -> Metadata:
    """The normalizer's switches that a GGUF can state."""
    switches = [switch for step in steps(setting) for switch in _switches(step)]
    return {f"tokenizer.ggml.normalizer.{name}": value for name, value in switches}


def _switches(step: Mapping[str, Any]) -> Iterator[tuple[str, bool]]:
    match step.get("type"):
        case "Lowercase":
            yield "lowercase", True
        case "StripAccents":
            yield "strip_accents", True
        case "BertNormalizer":
            for name in ("lowercase", "strip_accents"):
                if isinstance(value := step.get(name), bool):
                    yield name, value
