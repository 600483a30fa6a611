"""Prints one answer while it streams in, wrapped at the terminal's width."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TextIO

from cli import human
from cli.human import cell_len
from cli.reply import Reply
from cli.text import harmless

_DIM, _PLAIN = "\x1b[90m", "\x1b[0m"
_BEGIN, _END = "Thinking...\n", "...done thinking.\n\n"
_MARGIN = 5  # cells left free at the right


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """How answers are printed. `width` is the terminal's in cells; 0 (no terminal) turns wrapping and dimming off.

    `dim`: whether the terminal can show thinking dimmed.
    """

    width: int = 0
    dim: bool = True
    wrap: bool = True
    hide_thinking: bool = False


class AnswerPrinter:
    """Writes the pieces of one answer to `out` and keeps the whole text."""

    def __init__(self, out: TextIO, look: Look) -> None:
        self.content = ""
        self.thinking = ""
        self.final: Reply | None = None
        self._out = out
        self._look = look
        self._dim, self._plain = (_DIM, _PLAIN) if look.width and look.dim else ("", "")
        self._thinks = False
        self._wrap = self._new_wrap()

    def follow(self, responses: Iterable[Reply]) -> None:
        """Print every piece. An answer that breaks off is kept as far as it came."""
        try:
            for response in responses:
                self._feed(response)
        finally:
            self._out.write(self._rest() + (self._plain if self._thinks else ""))
            self._out.flush()

    def _feed(self, response: Reply) -> None:
        thinking, content = _texts(response)
        self._show_thinking(thinking)
        self._show_content(content)
        self._out.flush()
        if response.flag("done"):
            self.final = response

    def _show_thinking(self, text: str) -> None:
        self.thinking += text
        if not text or self._look.hide_thinking:
            return
        if not self._thinks:
            self._thinks = True
            self._out.write(self._dim + _BEGIN)
        self._write(text)

    def _show_content(self, text: str) -> None:
        if text and self._thinks:
            self._stop_thinking()
        self.content += text
        self._write(text)

    def _stop_thinking(self) -> None:
        line_end = "" if self.thinking.endswith("\n") else "\n"
        self._out.write(self._rest() + line_end + _END + self._plain)
        self._thinks = False
        self._wrap = self._new_wrap()

    def _write(self, text: str) -> None:
        if self._look.width:  # a program that reads it gets it as it is
            text = harmless(text)
        self._out.write(self._wrap.feed(text) if self._wrap else text)

    def _rest(self) -> str:
        return self._wrap.end() if self._wrap else ""

    def _new_wrap(self) -> WordWrap | None:
        width = self._look.width - _MARGIN
        return WordWrap(width) if self._look.wrap and width > 0 else None


def _texts(response: Reply) -> tuple[str, str]:
    """The thinking and the content in a piece."""
    if "message" in response.fields:
        message = response.object("message")
        return message.text("thinking"), message.text("content")
    return response.text("thinking"), response.text("response")


def timings(final: Reply) -> str:
    """Durations, token counts and rates of an answer, for `--verbose`."""
    prompt, prompt_time = final.number("prompt_eval_count"), final.number("prompt_eval_duration")
    count, time = final.number("eval_count"), final.number("eval_duration")
    rows = {
        "total duration": human.duration(final.number("total_duration")),
        "load duration": human.duration(final.number("load_duration")),
        "prompt eval count": f"{prompt} token(s)",
        "prompt eval duration": human.duration(prompt_time),
        "prompt eval rate": human.rate(prompt, prompt_time),
        "eval count": f"{count} token(s)",
        "eval duration": human.duration(time),
        "eval rate": human.rate(count, time),
    }
    return "".join(f"{f'{name}:':<22}{value}\n" for name, value in rows.items())


def truncation(final: Reply) -> str:
    """A line that tells what of the prompt the model has not read; empty if it has read all of it."""
    cut = final.object("prompt_truncated")
    counts = [(cut.number("messages"), "message"), (cut.number("tokens"), "token")]
    parts = [f"{count} {noun}{'s' if count > 1 else ''}" for count, noun in counts if count]
    if not parts:
        return ""
    return f"Warning: the prompt did not fit the context, {' and '.join(parts)} were left out\n"


class WordWrap:
    """Breaks streamed text between words, at `width` cells. A word is held back until it ends.

    Characters two cells wide (Chinese, Japanese, Korean) are words of their own: those scripts write no blanks.
    """

    def __init__(self, width: int) -> None:
        self._width = width
        self._column = 0
        self._word = ""

    def feed(self, text: str) -> str:
        """The text to print now."""
        return "".join(map(self._take, text))

    def end(self) -> str:
        """The word that was held back, with a line break before it if it needs one."""
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
