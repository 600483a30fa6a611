"""Converts a safetensors checkpoint to GGUF, by the table of supported architectures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from gguf import GGML_QUANT_VERSION, LlamaFileType
from gguf import GGMLQuantizationType as Type

from modelfile.convert.bert import Bert, NomicBert
from modelfile.convert.checkpoint import Checkpoint, open_checkpoint
from modelfile.convert.errors import ConvertError
from modelfile.convert.family import Family
from modelfile.convert.files import Files
from modelfile.convert.gemma import Gemma, Gemma2, Gemma3
from modelfile.convert.llama import Llama
from modelfile.convert.phi3 import Phi3
from modelfile.convert.qwen import Qwen2, Qwen3, Qwen3Moe
from modelfile.convert.tensor import LazyTensor
from modelfile.convert.writer import Metadata, Progress, write_gguf
from modelfile.quantize import FP8, SOURCE_QUANTIZATION

FAMILIES: dict[str, type[Family]] = {
    "LlamaForCausalLM": Llama,
    "MistralForCausalLM": Llama,
    "MixtralForCausalLM": Llama,
    "Qwen2ForCausalLM": Qwen2,
    "Qwen2Model": Qwen2,
    "Qwen3ForCausalLM": Qwen3,
    "Qwen3Model": Qwen3,
    "Qwen3MoeForCausalLM": Qwen3Moe,
    "GemmaForCausalLM": Gemma,
    "Gemma2ForCausalLM": Gemma2,
    "Gemma3ForCausalLM": Gemma3,
    "Gemma3ForConditionalGeneration": Gemma3,
    "Phi3ForCausalLM": Phi3,
    "BertModel": Bert,
    "NomicBertModel": NomicBert,
}


def family_of(checkpoint: Checkpoint) -> Family:
    """The family for config.json's architecture. Raises ConvertError if it is unknown."""
    named = checkpoint.config.architectures
    if not isinstance(named, list) or not named:
        raise ConvertError("unknown architecture")
    name = str(named[0])
    if name not in FAMILIES:
        raise ConvertError(f'unsupported architecture "{name}"')
    return FAMILIES[name](checkpoint)


_FILE_TYPES = {
    Type.F32: LlamaFileType.ALL_F32,
    Type.F16: LlamaFileType.MOSTLY_F16,
    Type.BF16: LlamaFileType.MOSTLY_BF16,
}
_EXACT = (".bias", "_norm.weight", "ffn_gate_inp.weight", "token_types.weight")
"""Tensors that stay in F32, as do all of one dimension, because they are small or llama.cpp requires it."""


@dataclass(frozen=True, slots=True)
class ConvertedInfo:
    """The written file: llama.cpp's architecture, `general.file_type`, and the number of weights."""

    architecture: str
    file_type: int
    parameters: int


def convert(files: Mapping[str, Path], target: Path, progress: Progress) -> ConvertedInfo:
    """Convert the model in `files` (by name in its folder) to the GGUF `target`.

    BF16 and FP8 weights become BF16, others F16. Raises ConvertError and whatever `progress` raises, and then leaves no
    file. Takes minutes for a large model, with one tensor in memory at a time.
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


def _stored(name: str, tensor: LazyTensor) -> LazyTensor:
    if len(tensor.shape) == 1 or name.endswith(_EXACT):
        return tensor.stored_as(Type.F32)
    return tensor if tensor.type == Type.BF16 else tensor.stored_as(Type.F16)


def _file_type(tensors: Mapping[str, LazyTensor]) -> int:
    sizes: Counter[Type] = Counter()
    for tensor in tensors.values():
        sizes[tensor.type] += tensor.size
    return int(_FILE_TYPES[sizes.most_common(1)[0][0]])
