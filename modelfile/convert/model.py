"""A checkpoint of safetensors to a GGUF."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from gguf import GGML_QUANT_VERSION, LlamaFileType
from gguf import GGMLQuantizationType as Type

from modelfile.convert.checkpoint import open_checkpoint
from modelfile.convert.families import family_of
from modelfile.convert.files import Files
from modelfile.convert.metadata import Metadata
from modelfile.convert.tensor import Tensor
from modelfile.convert.writer import Progress, write_gguf
from modelfile.quantize import FP8, SOURCE_QUANTIZATION

_FILE_TYPES = {
    Type.F32: LlamaFileType.ALL_F32,
    Type.F16: LlamaFileType.MOSTLY_F16,
    Type.BF16: LlamaFileType.MOSTLY_BF16,
}
_EXACT = (".bias", "_norm.weight", "ffn_gate_inp.weight", "token_types.weight")
"""Tensors that stay in F32, as do all of one dimension: small ones, or such that the runner wants so."""


@dataclass(frozen=True, slots=True)
class ConvertedInfo:
    """What was written: llama.cpp's name of the architecture, the type of most weights, and how many there are."""

    architecture: str
    file_type: int
    parameters: int


def convert(files: Mapping[str, Path], target: Path, progress: Progress) -> ConvertedInfo:
    """Write the model in `files` (by their names in its folder) to `target` as a GGUF.

    Weights of BF16 and of 8 bits become BF16, others F16. Raises ConvertError, and whatever `progress` raises; no file
    is left then. Runs for minutes on a large model and holds one tensor in memory: for a process or thread of its own.
    """
    checkpoint = open_checkpoint(Files(files))
    family = family_of(checkpoint)
    vocabulary = family.vocabulary()
    network = family.metadata()
    tokens = vocabulary["tokenizer.ggml.tokens"]
    assert isinstance(tokens, list)
    tensors = {name: _stored(name, tensor) for name, tensor in family.tensors(len(tokens)).items()}
    file_type = _file_type(tensors)
    general: Metadata = {
        "general.type": "model",
        "general.file_type": file_type,
        "general.quantization_version": GGML_QUANT_VERSION,
    }
    if any(source.is_fp8 for source in checkpoint.sources.values()):
        general[SOURCE_QUANTIZATION] = FP8
    write_gguf(target, family.name, general | network | vocabulary, tensors, progress)
    return ConvertedInfo(family.name, file_type, sum(tensor.size for tensor in tensors.values()))


def _stored(name: str, tensor: Tensor) -> Tensor:
    if len(tensor.shape) == 1 or name.endswith(_EXACT):
        return tensor.stored_as(Type.F32)
    return tensor if tensor.type == Type.BF16 else tensor.stored_as(Type.F16)


def _file_type(tensors: Mapping[str, Tensor]) -> int:
    sizes: Counter[Type] = Counter()
    for tensor in tensors.values():
        sizes[tensor.type] += tensor.size
    return int(_FILE_TYPES[sizes.most_common(1)[0][0]])
