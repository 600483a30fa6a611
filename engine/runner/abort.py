"""The flag that ends a forward pass early."""

from __future__ import annotations

import ctypes

from engine.runner.bindings import C

_libc = ctypes.CDLL(None)


class AbortFlag:
    """A flag that llama.cpp's CPU threads read without Python: libc's strlen over two bytes is the callback.

    A Python callback would take the GIL at every graph node. Any thread may set and clear it.
    """

    def __init__(self) -> None:
        self._bytes = ctypes.create_string_buffer(2)
        self.callback = ctypes.cast(_libc.strlen, C.ggml_abort_callback)
        self.data = ctypes.cast(self._bytes, ctypes.c_void_p)

    def set(self) -> None:
        """Make the forward pass that is running return soon."""
        self._bytes[0] = b"\1"

    def clear(self) -> None:
        """Let the next forward pass run."""
        self._bytes[0] = b"\0"

    def is_set(self) -> bool:
        """Whether an abort was asked for."""
        return self._bytes[0] != b"\0"
