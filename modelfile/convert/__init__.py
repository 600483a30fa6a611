"""Safetensors to GGUF, without torch or transformers: models, a file per family, and LoRA adapters.

Runs in a short-lived process of its own and never imports llama.cpp.
"""

from modelfile.convert.adapter import convert_adapter
from modelfile.convert.errors import ConvertError, UnsupportedType
from modelfile.convert.model import ConvertedInfo, convert

__all__ = ["ConvertError", "ConvertedInfo", "UnsupportedType", "convert", "convert_adapter"]
