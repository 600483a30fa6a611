"""Patterns of texts that never hold what a format's reader would take for its own marks."""

from __future__ import annotations

from collections.abc import Sequence


def without(reserved: Sequence[str]) -> str:
    """A pattern of texts that have none of these, which begin with the same character and do not have it again."""
    (first,) = {text[0] for text in reserved}
    return f"[^{_code(first)}]*({_code(first)}{_rest(first, [text[1:] for text in reserved])})*"


def _rest(first: str, tails: Sequence[str]) -> str:
    """What may stand behind a beginning of reserved texts, up to the next `first`; these are the rests of them."""
    following = dict.fromkeys(tail[0] for tail in tails)
    others = "".join(map(_code, [first, *following]))
    ways = ["", f"[^{others}][^{_code(first)}]*"]
    for letter in following:
        behind = [tail[1:] for tail in tails if tail[0] == letter]
        if all(behind):
            ways.append(_code(letter) + _rest(first, behind))
    return f"({'|'.join(ways)})"


def _code(letter: str) -> str:
    return letter if letter.isascii() and letter.isalnum() else f"\\x{{{ord(letter):X}}}"
