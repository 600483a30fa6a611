"""Makes a copy of a chat model that never ends its answer, so that every server streams the same number of tokens.

Shape and vocabulary stay, and every change keeps its length, so no offset in the file moves. Three things end an
answer. End tokens recognised by text are renamed. End tokens by id in the header all name one token, whose embedding
and so logit is zero, which is never likely. Servers also stop repetitive answers, so the logits are flattened.
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
NEVER = "fim_suf"  # a token that occurs in code prompts only
FLATTER = 0.3  # factor on the logits
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
    """The header in which only one token ends an answer, and that token's id."""
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
    data[at : at + row] = bytes(row)  # zero bytes are zeros in every ggml type of bundled models


def _scale(data: bytearray, vector: TensorInfo, factor: float) -> None:
    values = np.frombuffer(data, np.float32, vector.shape[0], vector.offset)
    values *= np.float32(factor)
