"""Converts safetensors models and LoRA adapters to GGUF, without torch or transformers; a file per model family.

Runs in the weights worker process and never imports llama.cpp.
"""

from modelfile.convert.adapter import convert_adapter
from modelfile.convert.errors import ConvertError, UnsupportedType
from modelfile.convert.model import ConvertedInfo, convert

__all__ = ["ConvertError", "ConvertedInfo", "UnsupportedType", "convert", "convert_adapter"]
