"""GGUF headers (metadata and tensor infos), read from untrusted files without reading weights.

Every length is bounded by the rest of the file and by fixed caps. Oversized strings are skipped; files that llama.cpp
could not load are refused here, before a child process sees them.
"""

from __future__ import annotations

from registry.gguf.cursor import GGUFError
from registry.gguf.header import GGUFArray, GGUFHeader, TensorInfo, require_complete
from registry.gguf.reader import read_header

__all__ = ["GGUFArray", "GGUFError", "GGUFHeader", "TensorInfo", "read_header", "require_complete"]
