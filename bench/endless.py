"""Makes a copy of a chat model that never ends its answer, so that every server has the same tokens to stream.

Weights, shape and vocabulary stay. llama.cpp knows the tokens that end an answer by ids in the header and by their
text; the copy's ids name a token that chat never produces, and the texts are spelled so that nobody knows them.
Every change keeps the length of what it replaces: no offset in the file moves.
"""

from __future__ import annotations

import struct

ENDING_TEXTS = {
    b"<|im_end|>": b"<|im_fin|>",
    b"<|endoftext|>": b"<|nexttopic|>",
    b"<|fim_pad|>": b"<|fim_gap|>",
}
ENDING_IDS = ("eos", "eot", "padding", "fim_pad")
NEVER = "fim_suf"  # a token that stands in prompts for code only
UINT32 = struct.pack("<I", 4)  # GGUF's type tag


def make_endless(gguf: bytes, header_size: int) -> bytes:
    """The changed copy; `header_size` is the offset of the tensor data. Raises ValueError without a fim_suf token."""
    header = gguf[:header_size]
    for text, other in ENDING_TEXTS.items():
        header = header.replace(text, other)
    where = _value_offset(header, NEVER)
    if where is None:
        raise ValueError("the model has no token that a chat never produces")
    never = header[where : where + 4]
    for name in ENDING_IDS:
        at = _value_offset(header, name)
        if at is not None:
            header = header[:at] + never + header[at + 4 :]
    return header + gguf[header_size:]


def _value_offset(header: bytes, name: str) -> int | None:
    key = f"tokenizer.ggml.{name}_token_id".encode()
    marker = struct.pack("<Q", len(key)) + key + UINT32
    at = header.find(marker)
    return None if at < 0 else at + len(marker)
