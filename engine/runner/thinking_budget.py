"""Ends the reasoning of an answer once it has as many tokens as it may have."""

from __future__ import annotations

from array import array
from collections.abc import Callable

from engine.messages import ThinkingLimit


class ThinkingBudget:
    """Follows one answer's tokens and forces the closing tag of its reasoning. Owned by the loop thread.

    `text_of` gives the bytes that a token adds to the text, `tokenize` the tokens of a text. Reasoning begins with the
    answer's first tag, or before the answer if the prompt has opened it.
    """

    def __init__(
        self, limit: ThinkingLimit, text_of: Callable[[int], bytes], tokenize: Callable[[str], array[int]]
    ) -> None:
        self._left = limit.tokens
        self._opening = limit.opening.strip().encode()
        self._closing = limit.closing.strip()
        is_tag = self._closing.startswith("</")
        self._after = "\n\n" if is_tag else ""  # as models with such tags write it
        tokens = tokenize(self._closing)
        self._closing_token = tokens[0] if is_tag and len(tokens) == 1 else None
        self._text_of = text_of
        self._tokenize = tokenize
        self._inside = limit.begun
        self._over = False
        self._tail = b""  # the end of the text
        self._forced: array[int] = array("i")
        self._cut = False
        self._force_if_used_up()

    @property
    def forced(self) -> int | None:
        """The token that must come next, None if any may."""
        return self._forced[0] if self._forced else None

    @property
    def banned(self) -> int | None:
        """The token that must not come any more, None if any may.

        A model whose reasoning was cut may go on with it, and would then close it once more, in the content.
        """
        return self._closing_token if self._cut else None

    def accept(self, token: int) -> None:
        """Record the next token of the answer."""
        if self._over:
            return
        if self._forced:
            del self._forced[0]
            self._over = self._cut = not self._forced
            return
        self._tail += self._text_of(token)
        if self._inside:
            self._left -= 1
            self._look_for_end()
        else:
            self._look_for_start()
        self._force_if_used_up()

    def _look_for_start(self) -> None:
        text = self._tail.lstrip()
        if text.startswith(self._opening):
            self._inside, self._tail = True, text[len(self._opening) :]
        else:
            self._over = not self._opening.startswith(text)

    def _look_for_end(self) -> None:
        closing = self._closing.encode()
        self._over = closing in self._tail
        self._tail = self._tail[-len(closing) :]

    def _force_if_used_up(self) -> None:
        """Force the closing tag, on a line of its own, unless the model is just writing it."""
        closing = self._closing.encode()
        writing = any(
            closing.startswith(self._tail[-size:]) for size in range(1, min(len(closing), len(self._tail)) + 1)
        )
        if self._inside and not self._over and self._left <= 0 and not writing:
            line_feed = "" if self._tail.endswith(b"\n") or not self._tail else "\n"
            self._forced = self._tokenize(line_feed + self._closing + self._after)
