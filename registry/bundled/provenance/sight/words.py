"""A byte-level BPE vocabulary of the few words that are needed, and its encoder (as llama.cpp's "gpt2" with pre "qwen2" does)."""

from __future__ import annotations

import re
import sys

from tiny import CONTROL, NORMAL, byte_alphabet  # noqa: E402

COLORS = {
    "red": (220, 30, 30), "green": (30, 170, 50), "blue": (40, 60, 220), "yellow": (235, 215, 40),
    "white": (250, 250, 250), "black": (10, 10, 10), "orange": (245, 140, 30), "purple": (140, 40, 170),
}
SHAPES = ("circle", "square", "triangle")
TEXT = (
    "user\nassistant\nsystem\nWhat\nHow\nAre\nDescribe\nHello\nLook\nThank\nHi\nYes\nNo\nA\n"
    "What is this? What is in the picture? What color is it? What shape is it? What is on the left? What is on the right? "
    "What is at the top? What is at the bottom? What is in the first picture? What is in the second picture? "
    "Are they the same? Describe the image. I see no picture. Yes. No. A an and on user assistant system "
    "Hello. Hi How are you? Thank you. Look. "
) + " ".join(COLORS) + " " + " ".join(SHAPES) + " A red circle. Red. Green. Blue. Yellow. White. Black. Orange. Purple. A circle. A square. A triangle."
SPLIT = re.compile(r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\w]?[^\W\d_]+|\d| ?[^\s\w]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
SPECIALS = ["<|im_start|>", "<|im_end|>", "<|endoftext|>"]
ALPHABET = byte_alphabet()


def as_bytes(text: str) -> str:
    return "".join(ALPHABET[b] for b in text.encode())


def build() -> tuple[list[str], list[int], list[str]]:
    tokens = list(ALPHABET)
    merges: list[str] = []
    pieces = dict.fromkeys(as_bytes(p) for p in SPLIT.findall(TEXT))
    for piece in pieces:
        parts = list(piece)
        # apply the merges so far, then merge the rest from the left
        parts = merge(parts, {m: i for i, m in enumerate(merges)})
        while len(parts) > 1:
            pair = f"{parts[0]} {parts[1]}"
            merges.append(pair)
            if parts[0] + parts[1] not in tokens:
                tokens.append(parts[0] + parts[1])
            parts = [parts[0] + parts[1], *parts[2:]]
            parts = merge(parts, {m: i for i, m in enumerate(merges)})
    types = [NORMAL] * len(tokens)
    tokens += SPECIALS
    types += [CONTROL] * len(SPECIALS)
    while len(tokens) % 32:
        tokens.append(f"<|unused_{len(tokens)}|>")
        types.append(CONTROL)
    return tokens, types, merges


def merge(parts: list[str], ranks: dict[str, int]) -> list[str]:
    while len(parts) > 1:
        found = [(ranks.get(f"{a} {b}"), i) for i, (a, b) in enumerate(zip(parts, parts[1:]))]
        found = [(r, i) for r, i in found if r is not None]
        if not found:
            break
        _, i = min(found)
        parts = [*parts[:i], parts[i] + parts[i + 1], *parts[i + 2 :]]
    return parts


TOKENS, TYPES, MERGES = build()
RANKS = {m: i for i, m in enumerate(MERGES)}
ID = {t: i for i, t in enumerate(TOKENS)}
_SPECIAL = re.compile("(" + "|".join(re.escape(s) for s in SPECIALS) + ")")


def encode(text: str) -> list[int]:
    out: list[int] = []
    for part in _SPECIAL.split(text):
        if part in SPECIALS:
            out.append(ID[part])
        elif part:
            for piece in SPLIT.findall(part):
                out += [ID[p] for p in merge(list(as_bytes(piece)), RANKS)]
    return out


if __name__ == "__main__":
    print(len(TOKENS), "tokens", len(MERGES), "merges")
    for text in ("<|im_start|>user\nWhat is this?<|im_end|>\n<|im_start|>assistant\n", "A purple triangle.", "What is in the second picture?"):
        print([TOKENS[i] for i in encode(text)])
