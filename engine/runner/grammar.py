"""Grammars that answers are held to, compiled by llguidance for a model's vocabulary."""

from __future__ import annotations

import json
import re
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

from engine.messages import Grammar
from engine.runner.ending import Ending, Goals
from engine.runner.matcher import Matcher, reason

if TYPE_CHECKING:
    from llguidance import LLParserLimits, LLTokenizer

STACK = 16 << 20  # bytes that the thread which compiles needs for schemas of nested references
LARGEST = 50_000  # symbols of a compiled grammar
MOST_STATES = 50_000  # of its lexer, a kilobyte or two each
_SHARED_RULES = r"""
GAP: /[ \t\r\n]{1,4}/
TEXT: /(.|\n)*/
"""


class GrammarRejected(ValueError):
    """The grammar cannot be used; the message is for the user."""


class Tokens(Protocol):
    """What is asked of a vocabulary, from a thread that need not be the loop's; see `Vocabulary`."""

    @property
    def size(self) -> int: ...
    def render(self, token: int, *, special: bool = False) -> bytes: ...
    def end_tokens(self) -> list[int]: ...
    def preserved(self, texts: Sequence[str]) -> dict[int, bytes]: ...
    def tokenize(self, text: str, *, add_special: bool) -> array[int]: ...


class Grammars:
    """Compiles grammars for the vocabulary of one model. Owned by one thread, which may be any.

    The first one takes long: llguidance sorts the vocabulary, some half a second for 150,000 tokens.
    """

    def __init__(self, vocabulary: Tokens) -> None:
        self._vocabulary = vocabulary

    def matcher(self, grammar: Grammar) -> Matcher:
        """The beginning of an answer. Raises GrammarRejected."""
        from llguidance import LLMatcher

        words = self._words
        tokens = {text.decode(): token for token, text in self._vocabulary.preserved(grammar.marks).items()}
        control = {mark: token for mark, token in tokens.items() if token in words.control}
        matcher = LLMatcher(words.tokenizer, lark(grammar, control), log_level=0, limits=limits())
        if matcher.is_error():
            raise GrammarRejected(reason(matcher))
        closing = (tokens[mark] for n, mark in enumerate(grammar.marks) if mark in tokens and _ends(grammar, n))
        closings = [self._vocabulary.tokenize(text, add_special=False).tolist() for text in grammar.closings]
        return Matcher(matcher, words.ending, Goals(words.ending.tokens(closing), closings))

    @cached_property
    def _words(self) -> _Words:
        from llguidance import LLTokenizer, TokenizerWrapper

        table = _Table(self._vocabulary)
        if not table.ends:
            raise GrammarRejected("the model has no token that ends an answer")
        try:
            tokenizer = LLTokenizer(TokenizerWrapper(table), eos_token=table.ends)
        except ValueError as error:
            raise GrammarRejected(f"the model's vocabulary does not suit grammars: {error}") from None
        return _Words(tokenizer, Ending(table.tokens, table.ends), frozenset(table.special_token_ids))


@dataclass(frozen=True, slots=True)
class _Words:
    """What grammars need of a vocabulary."""

    tokenizer: LLTokenizer
    ending: Ending
    control: frozenset[int]


def lark(grammar: Grammar, control: Mapping[str, int]) -> str:
    """The whole grammar for a vocabulary in which the marks in `control` are control tokens, the others text."""
    words = {mark: f"<[{control[mark]}]>" if mark in control else _quoted(mark) for mark in grammar.marks}
    texts = [mark for mark in grammar.marks if mark not in control]
    rules = [f"mark_{number}: {word}" for number, word in enumerate(words.values())]
    for number, mark in enumerate(grammar.marks):
        if f"MARK_{number}" in grammar.rules:
            inside, behind = ("", words[mark]) if mark in control else (mark, '""')
            rules += [f"MARK_{number}: {_quoted(inside)}", f"tail_{number}: {behind}"]
    for number in filter(lambda number: _ends(grammar, number), range(len(grammar.marks))):
        rules += _until(number, grammar.marks[number], words, texts)
    return "\n".join([grammar.rules, _SHARED_RULES, *rules])


def limits() -> LLParserLimits:
    """What a grammar may cost."""
    from llguidance import LLParserLimits

    return LLParserLimits(max_grammar_size=LARGEST, max_lexer_states=MOST_STATES, verbose_errors=False)


def _until(number: int, mark: str, words: Mapping[str, str], texts: Sequence[str]) -> list[str]:
    """The rule `until_N` and what it needs: `texts` are the marks that are no tokens, but could be spelled out."""
    others = " | ".join(words[text] for text in texts if text != mark)
    free = [f"FREE_{number}: TEXT & ~(TEXT ({others}) TEXT)" if others else f"FREE_{number}: TEXT"]
    lazy = "[lazy]" if mark in texts else ""  # a token ends it by itself
    return [*free, f"until_{number}{lazy}: FREE_{number} {words[mark]}"]


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _ends(grammar: Grammar, number: int) -> bool:
    """Whether texts end with a mark in this grammar."""
    return re.search(rf"\buntil_{number}\b", grammar.rules) is not None


class _Table:
    """A vocabulary in the shape that llguidance's wrapper takes."""

    bos_token_id = None

    def __init__(self, vocabulary: Tokens) -> None:
        self._vocabulary = vocabulary
        self.tokens: list[bytes] = []
        self.special_token_ids: list[int] = []
        for token in range(vocabulary.size):
            text = vocabulary.render(token)
            if not text:
                self.special_token_ids.append(token)
            self.tokens.append(text or vocabulary.render(token, special=True))
        self.ends = vocabulary.end_tokens()

    @property
    def eos_token_id(self) -> int:
        """One of the tokens that end an answer."""
        return self.ends[0]

    def __call__(self, text: str | bytes) -> list[int]:
        written = text if isinstance(text, str) else text.decode("utf-8", "replace")
        return self._vocabulary.tokenize(written, add_special=False).tolist()
