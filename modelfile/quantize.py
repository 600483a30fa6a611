"""The types that weights can be quantized to. Pure; `modelfile.worker` does the work."""

from __future__ import annotations

from typing import Final, NamedTuple

from registry.gguf import GGUFHeader
from registry.gguf.types import FILE_TYPES

SOURCES: Final = ("F32", "F16", "BF16")
"""File types that can be quantized: unquantized weights."""

SOURCE_QUANTIZATION: Final = "source_quantization"
"""The GGUF key for the quantization of the weights before their conversion."""
FP8: Final = "hf_fp8"


class QuantizeError(ValueError):
    """These weights cannot be quantized to this type; the text is for the user."""


_NEEDS_MATRIX: Final = frozenset(
    {"IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ2_M", "IQ3_XXS", "IQ3_XS", "Q2_K_S"}
)
"""Types for which llama.cpp needs an importance matrix."""
_NOT_WRITTEN: Final = frozenset({"NVFP4"})
_ALIASES: Final = {"Q3_K": "Q3_K_M", "Q4_K": "Q4_K_M", "Q5_K": "Q5_K_M"}
_NUMBERS: Final = {name: number for number, name in FILE_TYPES.items() if name not in _NEEDS_MATRIX | _NOT_WRITTEN}


class Quantization(NamedTuple):
    """A file type: its name and its number in a GGUF."""

    name: str
    number: int


def quantization(text: str) -> Quantization:
    """Parse a type's name, ignoring case. Raises QuantizeError."""
    name = text.upper()
    name = _ALIASES.get(name, name)
    if name not in _NUMBERS:
        supported = "F32, F16, Q4_K_S, Q4_K_M, Q8_0"
        raise QuantizeError(f"unsupported quantization type {name} - supported types are {supported}")
    return Quantization(name, _NUMBERS[name])


def source_type(header: GGUFHeader) -> str:
    """The type of most weights. Raises QuantizeError if they cannot be quantized."""
    number = header.metadata.get("general.file_type")
    name = FILE_TYPES.get(number, "") if isinstance(number, int) else ""
    if name not in SOURCES:
        raise QuantizeError("quantization is only supported for F16, BF16 and F32 models")
    return name


def default_quantization(header: GGUFHeader) -> Quantization | None:
    """The default for a converted file: Q8_0 if the checkpoint had FP8 weights, else None (keep)."""
    return quantization("Q8_0") if header.metadata.get(SOURCE_QUANTIZATION) == FP8 else None


class Precision(NamedTuple):
    """A pattern of tensor names, and the type that these tensors get."""

    pattern: str
    type: str


def exceptions(architecture: str, target: Quantization) -> tuple[Precision, ...]:
    """Tensors of an architecture that are sensitive to quantization, with their types."""
    if architecture in ("glm4", "glmocr") and "_K" not in target.name:
        return ()
    return _EXCEPTIONS.get(architecture, ())


_PREDICTION = (Precision(r"blk\..*\.nextn\.eh_proj\.weight", "Q8_0"),)
_ENDS = (Precision(r"token_embd\.weight", "F16"), Precision(r"output\.weight", "F16"))
_EXCEPTIONS = {
    "qwen35": _PREDICTION,
    "qwen35moe": _PREDICTION,
    "gemma3n": (Precision(r"per_layer_token_embd\.weight", "F16"),),
    "deepseek2": tuple(
        Precision(rf"blk\..*\.attn_{part}\.weight", "Q8_0") for part in ("k_b", "q_a", "q_b", "v_b", "kv_a_mqa")
    ),
    "glm4": _ENDS,
    "glmocr": _ENDS,
}
