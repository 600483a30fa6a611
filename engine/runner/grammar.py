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
from engine.runner.forced_end import BYTES, END, FIRST_MARK, MOST_MARKS, STEPS, EndFinder
from engine.runner.matcher import Matcher, Steps, reason

if TYPE_CHECKING:
    from llguidance import LLMatcher, LLParserLimits, LLTokenizer

STACK = 16 << 20  # bytes that the thread which compiles needs for schemas of nested references
LARGEST = 50_000  # symbols of a compiled grammar
MOST_STATES = 50_000  # of its lexer, a kilobyte or two each
MOST_ITEMS = 20_000  # ways that are open at one place: hundreds of alternatives, which begin alike
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
        words = self._words
        tokens = {text.decode(): token for token, text in self._vocabulary.preserved(grammar.marks).items()}
        control = {mark: token for mark, token in tokens.items() if token in words.control}
        steps = {token: FIRST_MARK + n for n, token in enumerate(list(control.values())[:MOST_MARKS])}
        matcher = _compiled(words.tokenizer, lark(grammar, control))
        shadow = _compiled(
            words.stepper, lark(grammar, {mark: steps[token] for mark, token in control.items() if token in steps})
        )
        closings = dict.fromkeys([*grammar.closings, *(m for n, m in enumerate(grammar.marks) if _ends(grammar, n))])
        found = Steps(
            words.pieces,
            steps,
            [text.encode() for text in closings],
            [text.encode() for text in grammar.examples],
            "".join(mark for mark in grammar.marks if mark not in control).encode(),
        )
        return Matcher(matcher, shadow, words.ending, found, self._vocabulary.size, words.end_token)

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
        control = frozenset(table.special_token_ids)
        stepper = LLTokenizer(TokenizerWrapper(_StepTable()), eos_token=[END])
        silent = control | {*table.ends}
        pieces = [b"" if token in silent else piece for token, piece in enumerate(table.tokens)]
        return _Words(tokenizer, stepper, pieces, EndFinder(pieces), control, table.ends[0])


@dataclass(frozen=True, slots=True)
class _Words:
    """What grammars need of a vocabulary; `stepper` is the one of the search for an end."""

    tokenizer: LLTokenizer
    stepper: LLTokenizer
    pieces: list[bytes]
    ending: EndFinder
    control: frozenset[int]
    end_token: int


def _compiled(tokenizer: LLTokenizer, rules: str) -> LLMatcher:
    from llguidance import LLMatcher

    matcher = LLMatcher(tokenizer, rules, log_level=0, limits=limits())
    if matcher.is_error():
        raise GrammarRejected(reason(matcher))
    return matcher


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

    return LLParserLimits(
        max_grammar_size=LARGEST, max_lexer_states=MOST_STATES, max_items_in_row=MOST_ITEMS, verbose_errors=False
    )


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


class _StepTable:
    """The steps of the search for an end as a vocabulary."""

    bos_token_id = None
    eos_token_id = END

    def __init__(self) -> None:
        self.tokens = [bytes([byte]) for byte in range(BYTES)]
        self.tokens += [f"<step {step}>".encode() for step in range(BYTES, STEPS)]
        self.special_token_ids = list(range(BYTES, STEPS))

    def __call__(self, text: str | bytes) -> list[int]:
        return list(text.encode() if isinstance(text, str) else text)
