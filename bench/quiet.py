"""Keeps llama.cpp's log out of the bench's output, and shows it where something failed."""

from __future__ import annotations

from engine.runner.llamacpp import C

_lines: list[str] = []


@C.llama_log_callback  # type: ignore[untyped-decorator]
def _keep(_level: int, text: bytes, _user_data: object) -> None:
    _lines.append(text.decode("utf-8", "replace"))
    del _lines[:-40]


def quiet() -> None:
    """Keep the last lines of llama.cpp's log instead of printing them; for the whole process."""
    C.llama_log_set(_keep, None)


def last_words() -> str:
    """What llama.cpp said most recently."""
    return "".join(_lines)
