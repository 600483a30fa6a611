"""ChatML, which many families write with small differences: `<|im_start|>role`, a text, `<|im_end|>`."""

from __future__ import annotations

START = "<|im_start|>"
END = "<|im_end|>\n"
ANSWER = f"{START}assistant\n"


def turn(role: str, text: str) -> str:
    """One whole message."""
    return f"{START}{role}\n{text}{END}"
