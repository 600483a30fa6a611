"""Builds the benchmark's model: Qwen2.5-0.5B's shape, a real vocabulary, random weights.

Run as `python -m bench.random_model GGUF...`, so that its memory and threads are gone before measurements.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import numpy.typing as npt

from bench.raw import last_words, quiet
from engine.runner.llamacpp import C

VOCABULARY = Path(__file__).parent / "data" / "qwen2-vocab.gguf"
FILE_TYPES = {"q8_0": C.LLAMA_FTYPE_MOSTLY_Q8_0, "q4_k_m": C.LLAMA_FTYPE_MOSTLY_Q4_K_M}
WORD = re.compile("Ġ[A-Za-z]{2,}")  # Ġ stands for a blank


@dataclass(frozen=True, slots=True)
class Shape:
    """The sizes of a Qwen2 model: `width` is the embedding length, `heads` query heads share `kv_heads`."""

    layers: int
    width: int
    feed_forward: int
    heads: int
    kv_heads: int
    context: int = 32768


QWEN_0_5B = Shape(layers=24, width=896, feed_forward=4864, heads=14, kv_heads=2)


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor to write: a (rows, columns) matrix, or a (length,) vector with an optional fixed value."""

    name: str
    shape: tuple[int, ...]
    value: float | None = None

    def make(self, random: np.random.Generator) -> npt.NDArray[np.generic]:
        """Random values: F16 matrices that preserve the norm of their input, and F32 vectors."""
        if self.value is not None:
            return np.full(self.shape, self.value, np.float32)
        values = random.standard_normal(self.shape, dtype=np.float32)
        if len(self.shape) == 1:
            return values * np.float32(0.1)
        return (values * np.float32(self.shape[-1] ** -0.5)).astype(np.float16)


def write_model(vocabulary: Path, target: Path, shape: Shape, seed: int = 0) -> None:
    """Write an F16 GGUF, with one tensor in memory at a time."""
    writer = gguf.GGUFWriter(target, "qwen2")
    _describe(writer, shape)
    tokens = _copy_tokenizer(gguf.GGUFReader(vocabulary), writer)
    tensors = list(_tensors(shape, len(tokens)))
    for tensor in tensors:
        kind = np.dtype(np.float32 if len(tensor.shape) == 1 else np.float16)
        writer.add_tensor_info(tensor.name, tensor.shape, kind, int(np.prod(tensor.shape)) * kind.itemsize)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    random = np.random.default_rng(seed)
    unlikely = [not WORD.fullmatch(token.decode("utf-8", "replace")) for token in tokens]
    for tensor in tensors:
        data = tensor.make(random)
        if tensor.name == "token_embd.weight":
            # The embedding is also the output matrix. A row of zeros makes a logit of zero, the middle of all the
            # random ones. So answers do not end, and consist of whole words: as text that comes back with the next turn
            # of a chat they become the same tokens again, as a trained model's do.
            data[unlikely] = 0
        writer.write_tensor_data(data)
    writer.close()


def quantize(source: Path, target: Path, file_type: int) -> None:
    """Quantize a GGUF as `llama-quantize` does. Raises RuntimeError."""
    params = C.llama_model_quantize_default_params()
    params.ftype = file_type
    if C.llama_model_quantize(str(source).encode(), str(target).encode(), params):
        raise RuntimeError(f"llama.cpp could not quantise {source.name} to type {file_type}: {last_words()}")


def build(targets: Sequence[Path]) -> None:
    """Write GGUFs whose names end in the type ("…-q8_0.gguf"), from a temporary F16 one beside the first."""
    full = targets[0].with_name("f16.gguf")
    try:
        print("bench: writing random weights (1 GB)", file=sys.stderr)
        write_model(VOCABULARY, full, QWEN_0_5B)
        for target in targets:
            kind = target.stem.rpartition("-")[2]
            print(f"bench: quantising to {kind}", file=sys.stderr)
            partial = target.with_suffix(".partial")
            quantize(full, partial, FILE_TYPES[kind])
            partial.rename(target)
    finally:
        full.unlink(missing_ok=True)


def _describe(writer: gguf.GGUFWriter, shape: Shape) -> None:
    writer.add_name("random")
    writer.add_block_count(shape.layers)
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.width)
    writer.add_feed_forward_length(shape.feed_forward)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_rope_freq_base(1e6)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_file_type(1)


def _copy_tokenizer(reader: gguf.GGUFReader, writer: gguf.GGUFWriter) -> list[bytes]:
    """Copy every tokenizer key, the chat template among them; returns the tokens."""
    tokens: list[bytes] = []
    for name, field in reader.fields.items():
        if not name.startswith("tokenizer."):
            continue
        value = _value(field)
        if name == "tokenizer.ggml.tokens":
            tokens = value
        if field.types[0] == gguf.GGUFValueType.ARRAY:
            writer.add_array(name, value)
        else:
            writer.add_key_value(name, value, field.types[0])
    return tokens


def _value(field: Any) -> Any:
    if field.types == [gguf.GGUFValueType.STRING]:
        return bytes(field.parts[-1]).decode()
    if field.types[0] != gguf.GGUFValueType.ARRAY:
        return field.parts[-1][0].item()
    if field.types[-1] == gguf.GGUFValueType.STRING:
        return [bytes(field.parts[i]) for i in field.data]
    return [field.parts[i][0].item() for i in field.data]


def _tensors(shape: Shape, n_vocab: int) -> Iterator[Tensor]:
    width, wide = shape.width, shape.feed_forward
    kv_width = shape.kv_heads * (width // shape.heads)
    yield Tensor("token_embd.weight", (n_vocab, width))
    yield Tensor("output_norm.weight", (width,), 1.0)
    for i in range(shape.layers):
        block = f"blk.{i}."
        yield Tensor(block + "attn_norm.weight", (width,), 1.0)
        yield Tensor(block + "ffn_norm.weight", (width,), 1.0)
        for name, rows in (("attn_q", width), ("attn_k", kv_width), ("attn_v", kv_width)):
            yield Tensor(f"{block}{name}.weight", (rows, width))
            yield Tensor(f"{block}{name}.bias", (rows,))
        yield Tensor(block + "attn_output.weight", (width, width))
        yield Tensor(block + "ffn_gate.weight", (wide, width))
        yield Tensor(block + "ffn_up.weight", (wide, width))
        yield Tensor(block + "ffn_down.weight", (width, wide))


if __name__ == "__main__":
    quiet()
    build([Path(name) for name in sys.argv[1:]])
