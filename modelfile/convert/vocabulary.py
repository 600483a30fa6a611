"""A model's vocabulary as a GGUF stores it."""

from __future__ import annotations

import enum
from collections import Counter
from dataclasses import dataclass, field

from modelfile.convert.config import Config
from modelfile.convert.errors import ConvertError
from modelfile.convert.writer import Metadata

MOST_TOKENS = 1 << 22
ADDED_SCORE = -1000.0
_PADDING_SCORE = -10000.0


class TokenType(enum.IntEnum):
    """GGUF's token types."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


@dataclass(frozen=True, slots=True)
class Token:
    """One token. `score` orders SentencePiece's merges; other tokenizers have none."""

    text: str
    type: TokenType = TokenType.NORMAL
    score: float = 0.0


@dataclass(frozen=True, slots=True)
class TokenizerVocabulary:
    """All tokens by id, llama.cpp's names of tokenizer and pre-tokenizer, and `extra` metadata."""

    model: str
    pre: str
    tokens: list[Token]
    scored: bool = False
    extra: Metadata = field(default_factory=dict)

    def metadata(self) -> Metadata:
        """The GGUF's metadata. Raises ConvertError for a repeated token, which would crash llama.cpp."""
        texts = [token.text for token in self.tokens]
        if len(set(texts)) != len(texts):
            raise ConvertError(f"the vocabulary has the token {_repeated(texts)!r} twice")
        metadata: Metadata = {
            "tokenizer.ggml.model": self.model,
            "tokenizer.ggml.pre": self.pre,
            "tokenizer.ggml.tokens": texts,
            "tokenizer.ggml.token_type": [int(token.type) for token in self.tokens],
        }
        if self.scored:
            metadata["tokenizer.ggml.scores"] = [token.score for token in self.tokens]
        return metadata | self.extra


def vocabulary_size(config: Config, used: int) -> int:
    """config.json's vocab_size, else `used` (one more than the highest id). Raises ConvertError if it is too large."""
    size = config.positive("vocab_size", default=used)
    if size > MOST_TOKENS:
        raise ConvertError(f"config.json: vocab_size {size} is too large")
    return size


def placed(size: int, tokens: dict[int, Token]) -> list[Token]:
    """Tokens by id, with placeholders for missing ids. Raises ConvertError for an id out of range."""
    if strays := [token_id for token_id in tokens if not 0 <= token_id < size]:
        raise ConvertError(f"the token {tokens[strays[0]].text!r} has the id {strays[0]}, but vocab_size is {size}")
    return [
        tokens.get(token_id) or Token(f"[PAD{token_id}]", TokenType.UNUSED, _PADDING_SCORE) for token_id in range(size)
    ]


def added_token(text: str, *, special: bool) -> Token:
    """An added token. Some control tokens are not marked as special, so the text is checked, too."""
    if special or _looks_special(text):
        return Token(text, TokenType.CONTROL, ADDED_SCORE)
    return Token(text.replace("\u2581", " "), TokenType.USER_DEFINED, ADDED_SCORE)


def _looks_special(text: str) -> bool:
    enclosed = any(text.startswith(a) and text.endswith(b) for a, b in (("<|", "|>"), ("<｜", "｜>"), ("<unused", ">")))
    return enclosed or text in ("<pad>", "<mask>", "<2mass>", "[@BOS@]")


def _repeated(texts: list[str]) -> str:
    return next(text for text, count in Counter(texts).items() if count > 1)
