"""Makes a copy of a chat model that never ends its answer, so that every server has the same tokens to stream.

Shape and vocabulary stay, and every change keeps the length of what it replaces: no offset in the file moves.
Three things end an answer. The tokens that end it by their text are spelled so that llama.cpp does not know them; the
ids in the header that end it all name one token, whose embedding, and so whose logit, is zero and never among the
likely ones; and servers break off an answer that repeats itself, so the logits are made flat enough to keep it wild.
"""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np

from registry.gguf import GGUFHeader, TensorInfo, read_header

ENDING_TEXTS = {
    b"<|im_end|>": b"<|im_fin|>",
    b"<|endoftext|>": b"<|nexttopic|>",
    b"<|fim_pad|>": b"<|fim_gap|>",
}
ENDING_IDS = ("eos", "eot", "padding", "fim_pad")
NEVER = "fim_suf"  # a token that stands in prompts for code only
FLATTER = 0.3  # what is left of the logits
UINT32 = struct.pack("<I", 4)  # GGUF's type tag


def make_endless(source: Path) -> bytes:
    """The changed copy of a GGUF with tied embeddings. Raises ValueError without a fim_suf token."""
    parsed = read_header(source)
    gguf = source.read_bytes()
    header, never = _rename_endings(gguf[: parsed.data_offset])
    data = bytearray(gguf[parsed.data_offset :])
    _silence(data, _tensor(parsed, "token_embd.weight"), never)
    _scale(data, _tensor(parsed, "output_norm.weight"), FLATTER)
    return header + data


def _rename_endings(header: bytes) -> tuple[bytes, int]:
    """The header in which only the token that is also returned ends an answer."""
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
    return header, struct.unpack("<I", never)[0]


def _value_offset(header: bytes, name: str) -> int | None:
    key = f"tokenizer.ggml.{name}_token_id".encode()
    marker = struct.pack("<Q", len(key)) + key + UINT32
    at = header.find(marker)
    return None if at < 0 else at + len(marker)


def _tensor(header: GGUFHeader, name: str) -> TensorInfo:
    return next(tensor for tensor in header.tensors if tensor.name == name)


def _silence(data: bytearray, embedding: TensorInfo, token: int) -> None:
    row = embedding.size // embedding.shape[1]
    at = embedding.offset + token * row
    data[at : at + row] = bytes(row)  # in every type of ggml that models are bundled in, zero bytes are zeros


def _scale(data: bytearray, vector: TensorInfo, factor: float) -> None:
    values = np.frombuffer(data, np.float32, vector.shape[0], vector.offset)
    values *= np.float32(factor)
