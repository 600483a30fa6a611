"""Grammars that constrain answers, compiled by llguidance for a model's vocabulary."""

from __future__ import annotations

import contextlib
import json
import re
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

from engine.messages import Grammar
from engine.runner.end_steps import END, FIRST_MARK, MOST_MARKS, StepVocabulary
from engine.runner.forced_end import EndFinder, EndTargets
from engine.runner.lazy_matcher import CallGrammar
from engine.runner.matcher import Matcher, TokenMask, TokenSteps, reason

if TYPE_CHECKING:
    from llguidance import LLMatcher, LLParserLimits, LLTokenizer

STACK = 16 << 20  # bytes of stack for the compiling thread: nested references recurse
LARGEST = 50_000  # symbols of a compiled grammar
MOST_STATES = 50_000  # lexer states, a kilobyte or two each
MOST_ITEMS = 20_000  # Earley items in one row: hundreds of alternatives that begin alike
_UNFORCED = '%llguidance {"no_forcing": true}'  # do not look ahead: in long literals that takes long at each step
REMEMBERED = 8  # compiled grammars of calls: a conversation's tools are the same in each turn
_SHARED_RULES = r"""
GAP: /[ \t\r\n]{1,4}/
TEXT: /(.|\n)*/
"""


class GrammarRejected(ValueError):
    """The grammar cannot be used. The message is for users."""


class GrammarVocabulary(Protocol):
    """What grammars need of a vocabulary, from any thread; see `Vocabulary`."""

    @property
    def size(self) -> int: ...
    def render(self, token: int, *, special: bool = False) -> bytes: ...
    def end_tokens(self) -> list[int]: ...
    def preserved(self, texts: Sequence[str]) -> dict[int, bytes]: ...
    def tokenize(self, text: str, *, add_special: bool, parse_special: bool) -> array[int]: ...


class Grammars:
    """Compiles grammars for one model's vocabulary. Owned by one thread at a time, which may be any.

    `most_states` bounds the lexer of each grammar. The first use takes long: llguidance sorts the vocabulary, half a
    second for 150,000 tokens.
    """

    def __init__(self, vocabulary: GrammarVocabulary, most_states: int = MOST_STATES) -> None:
        self._vocabulary = vocabulary
        self._most_states = most_states
        self._compiled: dict[
            tuple[str, tuple[str, ...]], LLMatcher
        ] = {}  # of `call_grammar`, the most recently used at the end

    def matcher(self, grammar: Grammar) -> Matcher:
        """A matcher at the beginning of an answer. Raises GrammarRejected."""
        tables = self._tables
        control = self._control_tokens(grammar)
        steps = {token: FIRST_MARK + n for n, token in enumerate(list(control.values())[:MOST_MARKS])}
        placed = bool(grammar.user_grammar)
        matcher = self._matcher(tables.tokenizer, lark(grammar, control), placed=placed)
        control_steps = {mark: steps[token] for mark, token in control.items() if token in steps}
        shadow = self._matcher(tables.stepper, lark(grammar, control_steps, options=_UNFORCED), placed=placed)
        closings = dict.fromkeys([*grammar.closings, *(m for n, m in enumerate(grammar.marks) if _ends(grammar, n))])
        targets = EndTargets(
            [text.encode() for text in closings],
            [text.encode() for text in grammar.examples],
            "".join(mark for mark in grammar.marks if mark not in control).encode(),
            grammar.is_json,
        )
        token_steps = TokenSteps(tables.pieces, steps)
        mask = TokenMask(self._vocabulary.size)
        return Matcher(matcher, shadow, tables.end_finder, targets, token_steps, mask, tables.end_token)

    def call_grammar(self, grammar: Grammar) -> CallGrammar:
        """A grammar that is not for whole answers, for one answer. Raises GrammarRejected."""
        tables = self._tables
        control = self._control_tokens(grammar)
        key = (grammar.rules, grammar.marks)
        compiled = self._compiled.pop(key, None) or self._matcher(
            tables.tokenizer, lark(grammar, control), placed=False
        )
        self._compiled[key] = compiled
        if len(self._compiled) > REMEMBERED:
            del self._compiled[next(iter(self._compiled))]
        return CallGrammar(compiled.deep_copy(), tables.end_finder, TokenMask(self._vocabulary.size))

    def _control_tokens(self, grammar: Grammar) -> dict[str, int]:
        """The marks of a grammar that are control tokens."""
        tokens = {text.decode(): token for token, text in self._vocabulary.preserved(grammar.marks).items()}
        return {mark: token for mark, token in tokens.items() if token in self._tables.control}

    def _matcher(self, tokenizer: LLTokenizer, rules: str, *, placed: bool) -> LLMatcher:
        """A matcher for rules; `placed`: an error says where in them it is. Raises GrammarRejected."""
        from llguidance import LLMatcher

        matcher = LLMatcher(tokenizer, rules, log_level=0, limits=limits(self._most_states))
        if matcher.is_error():
            raise GrammarRejected(reason(matcher, placed=placed))
        return matcher

    def prepare(self) -> None:
        """Do now what the first use would do. Other Python code of the process stands still for half of that time."""
        with contextlib.suppress(GrammarRejected):  # the first use says why
            _ = self._tables

    @cached_property
    def _tables(self) -> _Tables:
        from llguidance import LLTokenizer, TokenizerWrapper

        table = _Table(self._vocabulary)
        if not table.ends:
            raise GrammarRejected("the model has no token that ends an answer")
        try:
            tokenizer = LLTokenizer(TokenizerWrapper(table), eos_token=table.ends)
        except ValueError as error:
            raise GrammarRejected(f"the model's vocabulary does not suit grammars: {error}") from None
        control = frozenset(table.special_token_ids)
        stepper = LLTokenizer(TokenizerWrapper(StepVocabulary()), eos_token=[END])
        silent = control | {*table.ends}
        pieces = [b"" if token in silent else piece for token, piece in enumerate(table.tokens)]
        return _Tables(tokenizer, stepper, pieces, EndFinder(pieces), control, table.ends[0])


@dataclass(frozen=True, slots=True)
class _Tables:
    """What is made once of a vocabulary: for llguidance, and `stepper` for the search for an end.

    `pieces` are the bytes of each token, b"" for those in `control` and for those that end an answer.
    """

    tokenizer: LLTokenizer
    stepper: LLTokenizer
    pieces: list[bytes]
    end_finder: EndFinder
    control: frozenset[int]
    end_token: int


def lark(grammar: Grammar, control: Mapping[str, int], options: str = "") -> str:
    """The whole grammar for a vocabulary: the marks in `control` are its control tokens, the others text.

    It is in Lark, with the line `options` before it; with a user's grammar it is JSON that holds both.
    """
    symbols = {mark: f"<[{control[mark]}]>" if mark in control else _quoted(mark) for mark in grammar.marks}
    texts = [mark for mark in grammar.marks if mark not in control]
    rules = [f"mark_{number}: {word}" for number, word in enumerate(symbols.values())]
    for number, mark in enumerate(grammar.marks):
        if f"MARK_{number}" in grammar.rules:
            inside, behind = ("", symbols[mark]) if mark in control else (mark, '""')
            rules += [f"MARK_{number}: {_quoted(inside)}", f"tail_{number}: {behind}"]
    for number in filter(lambda number: _ends(grammar, number), range(len(grammar.marks))):
        rules += _until(number, grammar.marks[number], symbols, texts)
    text = "\n".join([*filter(None, [options]), grammar.rules, _SHARED_RULES, *rules])
    if not grammar.user_grammar:
        return text
    user = {"name": "user", "lark_grammar": grammar.user_grammar}
    return json.dumps({"grammars": [{"lark_grammar": text}, user]})


def limits(most_states: int = MOST_STATES) -> LLParserLimits:
    """What compiling and following one grammar may cost."""
    from llguidance import LLParserLimits

    return LLParserLimits(
        max_grammar_size=LARGEST, max_lexer_states=most_states, max_items_in_row=MOST_ITEMS, verbose_errors=False
    )


def _until(number: int, mark: str, symbols: Mapping[str, str], texts: Sequence[str]) -> list[str]:
    """The rule `until_N`, any text and then the mark, and its terminal; `texts` are the marks that are plain text."""
    others = " | ".join(symbols[text] for text in texts if text != mark)
    free = [f"FREE_{number}: TEXT & ~(TEXT ({others}) TEXT)" if others else f"FREE_{number}: TEXT"]
    lazy = "[lazy]" if mark in texts else ""  # a token ends it by itself
    return [*free, f"until_{number}{lazy}: FREE_{number} {symbols[mark]}"]


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _ends(grammar: Grammar, number: int) -> bool:
    """Whether the grammar uses `until_N` of this mark."""
    return re.search(rf"\buntil_{number}\b", grammar.rules) is not None


class _Table:
    """A vocabulary in the shape that llguidance's `TokenizerWrapper` takes."""

    bos_token_id = None

    def __init__(self, vocabulary: GrammarVocabulary) -> None:
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
        """A text's tokens; the names of control tokens are text, too, as in an answer these tokens have no text."""
        decoded = text if isinstance(text, str) else text.decode("utf-8", "replace")
        return self._vocabulary.tokenize(decoded, add_special=False, parse_special=False).tolist()
