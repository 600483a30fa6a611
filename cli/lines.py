"""What the user types, message by message."""

from __future__ import annotations

from cli.history import History

PROMPT = ">>> "
MORE = "... "
QUOTES = '"""'
# Before these quotes, that is; elsewhere they are part of the text.
_OPENERS = ("", "/set system")


class Lines:
    """Reads messages from the terminal; one in three quotation marks may have many lines."""

    def __init__(self, history: History) -> None:
        self.history = history
        history.load()

    def read(self) -> str:
        """The next message. Raises EOFError at the end, KeyboardInterrupt when the user takes back what was typed."""
        line = self._ask(PROMPT)
        before, quotes, text = line.partition(QUOTES)
        if not quotes or before.strip() not in _OPENERS:
            return line
        return f"{before}{self._rest(text)}"

    def _rest(self, text: str) -> str:
        """The text up to the closing quotes, from further lines as needed."""
        while QUOTES not in text:
            text += "\n" + self._ask(MORE)
        return text[: text.index(QUOTES)].removeprefix("\n")

    def _ask(self, prompt: str) -> str:
        line = input(prompt)
        self.history.add(line)
        return line
