"""llama-cpp-python's low-level bindings, and nothing else of it: `from engine.runner.bindings import C`.

The package's own start imports a chat layer, a template engine and a disk cache. A child needs none of them, and
they are four fifths of its time to start and half of its memory.
"""

from __future__ import annotations

import ctypes
import functools
import importlib.util
import logging
import re
import sys
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from modelfile import backends

PACKAGE = "llama_cpp"


def _stand_in() -> ModuleType:
    """A package whose modules are those of the real one, without what its `__init__` does."""
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.submodule_search_locations is None:
        raise ModuleNotFoundError("llama-cpp-python is not installed", name=PACKAGE)
    package = ModuleType(PACKAGE)
    package.__path__ = list(spec.submodule_search_locations)
    return package


if PACKAGE in sys.modules:
    import llama_cpp.llama_cpp as C
else:
    sys.modules[PACKAGE] = _stand_in()
    try:
        import llama_cpp.llama_cpp as C
    finally:
        # Whoever imports the package later in this process gets the real one.
        del sys.modules[PACKAGE]

CPU_VARIANT = backends.load(C._lib)
"""Which of llama.cpp's CPU backends is in use; empty if it has but one."""

__all__ = ["CPU_VARIANT", "C", "version"]


def version() -> str:
    """The package's version, read from its source: looking up its metadata takes longer than all of the above."""
    source = Path(C.__file__).with_name("__init__.py").read_text()
    found = re.search(r'__version__ = "([^"]*)"', source)
    return found[1] if found else ""


# The flag that ends a forward pass early.

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


# Entries of a file's metadata that count in place of those that are in it.


def metadata_overrides(entries: Sequence[tuple[str, bool | int | float | str]]) -> ctypes.Array[Any]:
    """The array that llama.cpp wants, which must live until the model is loaded; it ends with an empty entry."""
    rows: ctypes.Array[Any] = (C.llama_model_kv_override * (len(entries) + 1))()
    for row, (key, value) in zip(rows, entries, strict=False):
        row.key = key.encode()
        _fill(row, value)
    return rows


def _fill(row: C.llama_model_kv_override, value: bool | int | float | str) -> None:
    match value:
        case bool():
            row.tag, row.value.val_bool = C.LLAMA_KV_OVERRIDE_TYPE_BOOL, value
        case int():
            row.tag, row.value.val_i64 = C.LLAMA_KV_OVERRIDE_TYPE_INT, value
        case float():
            row.tag, row.value.val_f64 = C.LLAMA_KV_OVERRIDE_TYPE_FLOAT, value
        case str():
            row.tag, row.value.val_str = C.LLAMA_KV_OVERRIDE_TYPE_STR, value.encode()


# What llama.cpp has to say: silent by default, its errors kept for the message of a failed load.

log = logging.getLogger(__name__)

ERROR_LEVEL = 4  # ggml's log levels: 1 debug, 2 info, 3 warning, 4 error, 5 continuation
KEPT = 16  # lines
_MODEL_BUFFER = re.compile(r"load_tensors: +(\S+) model buffer size = +([\d.]+) MiB")
_ABORT_CALLBACK = ctypes.CFUNCTYPE(None, ctypes.c_char_p)
_BUILD_FOLDER = re.compile(r"^\S*/(?=[^/\s]+:\d+: )")  # a failed assertion begins with its source file


class LibraryLog:
    """Receives llama.cpp's log from whatever thread it logs on; made by `library_log` only."""

    def __init__(self) -> None:
        self._errors: deque[str] = deque(maxlen=KEPT)
        self.buffers: dict[str, int] = {}  # bytes of the weights loaded last, by the kind of memory they are in
        self._callback = C.llama_log_callback(self._receive)  # must stay referenced as long as the library logs
        C.llama_log_set(self._callback, None)

    def clear(self) -> None:
        """Forget the errors and the buffers so far."""
        self._errors.clear()
        self.buffers.clear()

    def reason(self, what: str, private: Sequence[str]) -> str:
        """`what`, and why: the first error since `clear`, without the file paths named in `private`."""
        if not self._errors:
            return what
        why = self._errors[0]
        for path in private:
            why = why.replace(path, "model")
        return f"{what}: {why}"

    def on_abort(self, tell: Callable[[str], None]) -> None:
        """Have `tell` called with what llama.cpp gives up for, on whatever thread that happens; then it aborts."""

        def say(text: bytes) -> None:
            why = text.decode("utf-8", "replace").strip()
            print(why, file=sys.stderr, flush=True)  # as the library does if nobody else wants to
            tell(" ".join(_BUILD_FOLDER.sub("", why).split()))

        self._abort_callback = _ABORT_CALLBACK(say)  # must stay referenced too
        C._lib.ggml_set_abort_callback(self._abort_callback)

    def _receive(self, level: int, text: bytes, _user_data: object) -> None:
        line = text.decode("utf-8", "replace").strip()
        if not line:
            return
        if level == ERROR_LEVEL:
            self._errors.append(line)
        elif found := _MODEL_BUFFER.match(line):
            self.buffers[found[1]] = self.buffers.get(found[1], 0) + round(float(found[2]) * (1 << 20))
        # An aborted pass is an error to the library, hence not to us: what matters is raised.
        log.log(logging.INFO if level == ERROR_LEVEL else logging.DEBUG, "%s", line)


@functools.cache
def library_log() -> LibraryLog:
    """The one there is, for the whole life of the process, as the library has one log."""
    return LibraryLog()
