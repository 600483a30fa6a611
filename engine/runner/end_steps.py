"""The steps in which the search for a forced end walks a grammar, and sets of them as bit masks.

A step is a byte of text, the end of the answer, or one of the delimiters that are control tokens of the model. With
these few hundred steps as its vocabulary llguidance is a hundred times faster than with the model's tokens.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

BYTES = 256
END = BYTES  # the step that ends an answer
FIRST_MARK = BYTES + 1
MOST_MARKS = 63
STEPS = FIRST_MARK + MOST_MARKS
MASK_WORDS = -(-STEPS // 32)  # uint32 words of a mask

StepPath = tuple[int, ...]
"""Steps in a row."""

StepMask = bytes
"""A set of steps: bit n of the little-endian mask for step n, `4 * MASK_WORDS` bytes; b"" for none."""

QUOTE, BACKSLASH, LINE_FEED = ord('"'), ord("\\"), ord("\n")
SPACE, PRINTABLE = frozenset(b" \t\r\n"), frozenset(range(0x21, 0x7F))
STRUCTURE, OPENING, CLOSING = frozenset(b"{}[],:"), frozenset(b"{["), frozenset(b"}]")
LETTERS = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_")
LOWER = 0x20  # the bit that makes an ASCII letter lower case
PUNCTUATION = 4  # a kind of character, see `kind_of`
_FREE = frozenset(b"!~x")  # where one of these may come, a quote does not begin a JSON string
_FEW = 8  # letters that may come where a name or value is chosen


class StepVocabulary:
    """The steps as a vocabulary in the shape that llguidance's `TokenizerWrapper` takes."""

    bos_token_id = None
    eos_token_id = END

    def __init__(self) -> None:
        self.tokens = [bytes([byte]) for byte in range(BYTES)]
        self.tokens += [f"<step {step}>".encode() for step in range(BYTES, STEPS)]
        self.special_token_ids = list(range(BYTES, STEPS))

    def __call__(self, text: str | bytes) -> list[int]:
        return list(text.encode() if isinstance(text, str) else text)


def _mask_of(step: int) -> StepMask:
    bits = np.zeros(MASK_WORDS * 32, np.uint8)
    bits[step] = 1
    return np.packbits(bits, bitorder="little").tobytes()


ONLY_END = _mask_of(END)


def has(mask: StepMask, step: int) -> bool:
    """Whether a set holds a step."""
    return bool(mask[step >> 3] >> (step & 7) & 1)


@lru_cache(4096)
def steps_of(mask: StepMask) -> list[int]:
    """The steps of a set, ascending. The list is shared: do not change it."""
    steps: list[int] = np.flatnonzero(np.unpackbits(np.frombuffer(mask, np.uint8), bitorder="little")).tolist()
    return steps


def is_free_text(mask: StepMask) -> bool:
    """Whether any text may follow; a JSON string, which cannot hold a line feed, is no such place."""
    return has(mask, LINE_FEED) and all(has(mask, step) for step in _FREE)


def ends_string(mask: StepMask) -> bool:
    """Whether a quote may follow that ends a JSON string, rather than begin one."""
    return has(mask, QUOTE) and not has(mask, LINE_FEED) and any(has(mask, step) for step in _FREE)


@lru_cache(4096)
def is_choice(mask: StepMask) -> bool:
    """Whether one of a few names or values begins or goes on here."""
    letters = {step | LOWER for step in steps_of(mask) if step in LETTERS}
    return 1 < len(letters) <= _FEW and not has(mask, ord("0"))


def kind_of(step: int) -> int:
    """1 for lower case letters, 2 for digits, 3 for upper case letters, PUNCTUATION for all other steps."""
    char = chr(step) if step < BYTES else ""
    return 1 if char.islower() else 2 if char.isdigit() else 3 if char.isupper() else PUNCTUATION
