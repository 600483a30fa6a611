"""Which family a checkpoint belongs to, by what its config.json calls the architecture."""

from __future__ import annotations

from modelfile.convert.bert import Bert
from modelfile.convert.checkpoint import Checkpoint
from modelfile.convert.errors import ConvertError
from modelfile.convert.family import Family
from modelfile.convert.gemma import Gemma, Gemma2, Gemma3
from modelfile.convert.llama import Llama
from modelfile.convert.nomic_bert import NomicBert
from modelfile.convert.phi3 import Phi3
from modelfile.convert.qwen import Qwen2, Qwen3, Qwen3Moe

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
    """The family, with the checkpoint. Raises ConvertError if the architecture is not known."""
    named = checkpoint.config.architectures
    if not isinstance(named, list) or not named:
        raise ConvertError("unknown architecture")
    name = str(named[0])
    if name not in FAMILIES:
        raise ConvertError(f'unsupported architecture "{name}"')
    return FAMILIES[name](checkpoint)
