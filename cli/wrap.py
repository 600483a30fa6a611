"""Breaks a text between words while it is still coming in."""

from __future__ import annotations

from rich.cells import cell_len


class WordWrap:
    """Keeps lines within `width` cells. A word is held back until it ends, then it goes where it fits.

    Characters two cells wide (Chinese, Japanese, Korean) are words of their own: their scripts have no blanks.
    """

    def __init__(self, width: int) -> None:
        self._width = width
        self._column = 0
        self._word = ""

    def feed(self, text: str) -> str:
        """What can be shown of the text so far."""
        return "".join(map(self._take, text))

    def end(self) -> str:
        """The word that was held back."""
        word, self._word = self._word, ""
        cells = cell_len(word)
        new_line = self._column > 0 and self._column + cells > self._width
        self._column = cells if new_line else self._column + cells
        return f"\n{word}" if new_line else word

    def _take(self, char: str) -> str:
        if char == "\n":
            shown = self.end()
            self._column = 0
            return shown + char
        if char.isspace():
            shown = self.end()
            self._column += 1
            return shown + char
        if cell_len(char) > 1:
            shown = self.end()
            self._word = char
            return shown + self.end()
        self._word += char
        return ""
