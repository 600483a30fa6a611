"""The header of a GGUF file: metadata and tensors, read without the weights and without trust.

Everything is bounded: by what is left of the file, by the caps below, and by the time that they allow. What a file may
hold beyond them (a text of megabytes) is stepped over; what could not be loaded anyway is refused here, in a process
that nothing can crash.
"""

from __future__ import annotations

from registry.gguf.cursor import GGUFError
from registry.gguf.header import GGUFArray, GGUFHeader, TensorInfo, require_complete
from registry.gguf.reader import read_header

__all__ = ["GGUFArray", "GGUFError", "GGUFHeader", "TensorInfo", "read_header", "require_complete"]
