"""The vocabulary of a model as a GGUF stores it."""

from __future__ import annotations

import enum
from collections import Counter
from dataclasses import dataclass, field

from modelfile.convert.config import Config
from modelfile.convert.errors import ConvertError
from modelfile.convert.metadata import Metadata

MOST_TOKENS = 1 << 22
ADDED_SCORE = -1000.0
_PADDING_SCORE = -10000.0


class TokenType(enum.IntEnum):
    """What a token is for."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


@dataclass(frozen=True, slots=True)
class Token:
    """One entry. The score orders the merges of SentencePiece; other models have none."""

    text: str
    type: TokenType = TokenType.NORMAL
    score: float = 0.0


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """All tokens by id, `model` and `pre` (the tokenizer in llama.cpp's words) and `extra`, what else it needs."""

    model: str
    pre: str
    tokens: list[Token]
    scored: bool = False
    extra: Metadata = field(default_factory=dict)

    def metadata(self) -> Metadata:
        """The keys of a GGUF. Raises ConvertError if a text is there twice, which the runner does not survive."""
        texts = [token.text for token in self.tokens]
        if len(set(texts)) != len(texts):
            raise ConvertError(f"the vocabulary has the token {_repeated(texts)!r} twice")
        found: Metadata = {
            "tokenizer.ggml.model": self.model,
            "tokenizer.ggml.pre": self.pre,
            "tokenizer.ggml.tokens": texts,
            "tokenizer.ggml.token_type": [int(token.type) for token in self.tokens],
        }
        if self.scored:
            found["tokenizer.ggml.scores"] = [token.score for token in self.tokens]
        return found | self.extra


def vocabulary_size(config: Config, used: int) -> int:
    """How many tokens the model has: config.json's word, else `used`, one more than the highest id.

    Raises ConvertError if that is too few or too many.
    """
    size = config.positive("vocab_size", default=used)
    if size > MOST_TOKENS:
        raise ConvertError(f"config.json: vocab_size {size} is too large")
    return size


def placed(size: int, tokens: dict[int, Token]) -> list[Token]:
    """Tokens by id, with placeholders where there is none. Raises ConvertError for an id that has no place."""
    if strays := [id for id in tokens if not 0 <= id < size]:
        raise ConvertError(f"the token {tokens[strays[0]].text!r} has the id {strays[0]}, but vocab_size is {size}")
    return [tokens.get(id) or Token(f"[PAD{id}]", TokenType.UNUSED, _PADDING_SCORE) for id in range(size)]


def added_token(text: str, *, special: bool) -> Token:
    """A token that was added to a trained vocabulary. Some that steer the model are not marked as special."""
    if special or _looks_special(text):
        return Token(text, TokenType.CONTROL, ADDED_SCORE)
    return Token(text.replace("\u2581", " "), TokenType.USER_DEFINED, ADDED_SCORE)


def _looks_special(text: str) -> bool:
    enclosed = any(text.startswith(a) and text.endswith(b) for a, b in (("<|", "|>"), ("<｜", "｜>"), ("<unused", ">")))
    return enclosed or text in ("<pad>", "<mask>", "<2mass>", "[@BOS@]")


def _repeated(texts: list[str]) -> str:
    return next(text for text, count in Counter(texts).items() if count > 1)
