"""The line editor of a session: history, paste, completion, an editor for long messages."""

from __future__ import annotations

import shutil
import sys
import termios
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from prompt_toolkit import PromptSession
from prompt_toolkit.application import get_app
from prompt_toolkit.completion import CompleteEvent, Completer, Completion, PathCompleter
from prompt_toolkit.data_structures import Size
from prompt_toolkit.document import Document
from prompt_toolkit.filters import has_selection, is_searching
from prompt_toolkit.formatted_text import StyleAndTextTuples
from prompt_toolkit.history import History as EditorHistory
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.keys import Keys
from prompt_toolkit.output.vt100 import Vt100_Output
from prompt_toolkit.shortcuts import CompleteStyle

from cli.arguments import as_utf8
from cli.attachments import is_shown
from cli.completion import Words
from cli.input import MORE, PROMPT, History, is_open, message_of

HINT = "Use Ctrl-D or /bye to leave."
_PLACEHOLDER: StyleAndTextTuples = [("fg:ansibrightblack", "Send a message (/? for help)")]


class LineEditor:
    """Reads messages from the terminal. A pasted text is one message, and so is one in triple quotes."""

    def __init__(self, history: History, words: Words, *, terminal: str) -> None:
        """`words` completes commands; `terminal` is its kind, from TERM."""
        self._session: PromptSession[str] = PromptSession(
            PROMPT,
            multiline=True,  # Enter sends all the same, see `_keys`
            prompt_continuation=MORE,
            placeholder=lambda: [] if get_app().is_done else _PLACEHOLDER,  # it does not stay on a line that was left
            history=_Lines(history),
            completer=_Completer(words),
            complete_style=CompleteStyle.READLINE_LIKE,
            complete_while_typing=False,
            enable_suspend=True,
            key_bindings=_keys(),
            tempfile_suffix=".md",
            # Answers to a request for the cursor's position would get among what is typed during an answer.
            output=Vt100_Output(sys.stdout, _size, term=terminal or None, enable_cpr=False),
        )

    def read(self) -> str:
        """The next message. Raises EOFError at the end."""
        while True:
            try:
                return message_of(as_utf8(self._session.prompt()))
            except KeyboardInterrupt:
                if not self._session.default_buffer.text:
                    print(HINT)

    @contextmanager
    def set_aside(self) -> Iterator[None]:
        """While an answer is shown, what is typed waits for `read` unseen, and a pasted text is one message there."""
        if not sys.stdin.isatty():
            yield
            return
        terminal, output = sys.stdin.fileno(), self._session.output
        modes = termios.tcgetattr(terminal)
        _set_modes(terminal, [*modes[:3], modes[3] & ~termios.ECHO, *modes[4:]])
        output.enable_bracketed_paste()
        output.flush()
        try:
            yield
        finally:
            output.disable_bracketed_paste()
            output.flush()
            _set_modes(terminal, modes)


def _set_modes(terminal: int, modes: list[Any]) -> None:
    with suppress(termios.error):  # the terminal has gone
        termios.tcsetattr(terminal, termios.TCSANOW, modes)


def _size() -> Size:
    columns, rows = shutil.get_terminal_size()
    return Size(rows=rows, columns=columns)


class _Lines(EditorHistory):
    """What was typed: in this session as it was, from former ones line by line."""

    def __init__(self, history: History) -> None:
        super().__init__()
        self._history = history

    def load_history_strings(self) -> Iterable[str]:
        """The lines of the file, newest first."""
        return reversed(self._history.load())

    def store_string(self, string: str) -> None:
        """Append to the file."""
        self._history.add(string)


class _Completer(Completer):
    """Completes a line that begins with a command, or the path at the end of a message."""

    def __init__(self, words: Words) -> None:
        self._words = words
        self._paths = PathCompleter(file_filter=is_shown, expanduser=True)

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterator[Completion]:
        """What may stand at the cursor."""
        text = document.text_before_cursor
        last = text.rpartition(" ")[2].rpartition("\n")[2]
        if text.startswith("/") and "\n" not in text:
            for word in self._words(text):
                yield Completion(word, -len(last))
        if last[:1] in ("/", "~", "."):
            yield from self._paths.get_completions(Document(last), complete_event)


def _keys() -> KeyBindings:
    keys = KeyBindings()

    @keys.add("enter", filter=~is_searching)
    def _(event: KeyPressEvent) -> None:
        buffer = event.current_buffer
        if is_open(buffer.text):
            buffer.newline(copy_margin=False)
        else:
            buffer.validate_and_handle()

    @keys.add("escape", "enter", filter=~is_searching)
    def _(event: KeyPressEvent) -> None:
        event.current_buffer.newline(copy_margin=False)

    @keys.add("c-g", filter=~is_searching & ~has_selection)
    def _(event: KeyPressEvent) -> None:
        event.current_buffer.open_in_editor()

    @keys.add(Keys.Vt100MouseEvent, eager=True)
    def _(event: KeyPressEvent) -> None:
        """Nothing: no mouse is asked for, and a pasted colour that looks like one would be read as one, and fail."""

    return keys
