"""llama-cpp-python's ctypes bindings as `C`, and what goes with them: abort flag, metadata overrides, library log.

Importing `llama_cpp` itself would load a chat layer, a template engine and a disk cache, which no child needs: four
fifths of its start time and half of its memory. So a stand-in takes the package's place while the bindings load.
"""

from __future__ import annotations

import ctypes
import functools
import importlib
import importlib.util
import logging
import re
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from modelfile import backends

PACKAGE = "llama_cpp"


def _stand_in() -> ModuleType:
    """An empty package with the real one's `__path__`, so that its `__init__` does not run."""
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.submodule_search_locations is None:
        raise ModuleNotFoundError("llama-cpp-python is not installed", name=PACKAGE)
    package = ModuleType(PACKAGE)
    package.__path__ = list(spec.submodule_search_locations)
    return package


@contextmanager
def _without_package() -> Iterator[None]:
    """Inside the block the package's modules can be imported without the package itself."""
    if PACKAGE in sys.modules:
        yield
        return
    sys.modules[PACKAGE] = _stand_in()
    try:
        yield
    finally:
        # Whoever imports the package later in this process gets the real one.
        del sys.modules[PACKAGE]


with _without_package():
    import llama_cpp.llama_cpp as C

CPU_VARIANT = backends.load(C._lib)
"""Name of the llama.cpp CPU backend in use; empty if there is only one."""

__all__ = [
    "CPU_VARIANT",
    "AbortFlag",
    "C",
    "LibraryLog",
    "bound",
    "call",
    "library_log",
    "metadata_overrides",
    "multimodal",
    "version",
]


def call(name: str, result: Any, *arguments: object) -> Any:
    """Call a ggml function, which llama-cpp-python does not bind; `result` is its ctypes return type."""
    function = C._lib[name]  # by index, ctypes gives a new object: its restype is ours alone
    function.restype = result
    return function(*arguments)


def bound(name: str, result: Any, *arguments: Any) -> Any:
    """A llama.cpp function with other ctypes types than C has: addresses as plain numbers cost less than pointers."""
    function = C._lib[name]
    function.argtypes, function.restype = arguments, result
    return function


@functools.cache
def multimodal() -> ModuleType:
    """The bindings of libmtmd, which only models that see or hear need: the library is loaded here."""
    with _without_package():
        return importlib.import_module(f"{PACKAGE}.mtmd_cpp")


def version() -> str:
    """The package's version, read from its source text: its metadata would take longer than all imports here."""
    source = Path(C.__file__).with_name("__init__.py").read_text()
    match = re.search(r'__version__ = "([^"]*)"', source)
    return match[1] if match else ""


_libc = ctypes.CDLL(None)


class AbortFlag:
    """Ends a running forward pass early. Any thread may set and clear it.

    llama.cpp's CPU threads call `strlen` of libc on its two bytes as abort callback: a Python callback would take the
    GIL at every graph node.
    """

    def __init__(self) -> None:
        self._bytes = ctypes.create_string_buffer(2)
        self.callback = ctypes.cast(_libc.strlen, C.ggml_abort_callback)
        self.data = ctypes.cast(self._bytes, ctypes.c_void_p)

    def set(self) -> None:
        """Make the running forward pass return soon."""
        self._bytes[0] = b"\1"

    def clear(self) -> None:
        """Let the next forward pass run."""
        self._bytes[0] = b"\0"

    def is_set(self) -> bool:
        """Whether an abort was asked for."""
        return self._bytes[0] != b"\0"


def metadata_overrides(entries: Sequence[tuple[str, bool | int | float | str]]) -> ctypes.Array[Any]:
    """GGUF metadata overrides (`llama_model_kv_override`), with the empty entry that ends them.

    The array must live until the model is loaded.
    """
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


log = logging.getLogger("pronk.runner")

TRACE = 5  # as in registry.logfields, which the self-test must do without
SHOWN_LEVELS = (2, 3, 4)  # logged at DEBUG, the others at TRACE
ERROR_LEVEL = 4  # ggml's log levels: 1 debug, 2 info, 3 warning, 4 error, 5 continuation
KEPT = 16  # errors
MODEL, ADAPTER, CACHES, PASSES = "model", "LoRA", ("KV", "RS"), ("compute", "output")
"""What llama.cpp's log calls its kinds of buffers."""
_BUFFER = re.compile(r"\S+: +(\S+) +(model|LoRA|KV|RS|compute|output) buffer size = +([\d.]+) MiB")
_OUT_OF_MEMORY = re.compile(
    r"out ?of ?(device ?|host ?)?memory|insufficient memory|bad_alloc|cannot allocate|can.?t allocate|"
    r"(failed|unable) to allocate|memory allocation .*failed",
    re.IGNORECASE,
)
_ABORT_CALLBACK = ctypes.CFUNCTYPE(None, ctypes.c_char_p)
_BUILD_FOLDER = re.compile(r"^\S*/(?=[^/\s]+:\d+: )")  # a failed assertion's text begins with its source file


class LibraryLog:
    """Receives llama.cpp's log, on whatever thread it logs. Made by `library_log` only.

    It keeps the errors, for the message of a failed load, and in `buffers` the bytes allocated since `clear`, by what
    they are for and by llama.cpp's names for kinds of memory.
    """

    def __init__(self) -> None:
        self._errors: deque[str] = deque(maxlen=KEPT)
        self.buffers: dict[tuple[str, str], int] = {}
        self.callback = C.llama_log_callback(self._receive)  # must stay referenced as long as the library logs
        C.llama_log_set(self.callback, None)

    def clear(self) -> None:
        """Forget errors and buffers."""
        self._errors.clear()
        self.buffers.clear()

    def reason(self, what: str, private: Sequence[str]) -> str:
        """`what` with the first error since `clear`; the file paths in `private` are blotted out."""
        if not self._errors:
            return what
        why = self._errors[0]
        for path in private:
            why = why.replace(path, "model")
        return f"{what}: {why}"

    @property
    def out_of_memory(self) -> bool:
        """Whether memory could not be had since `clear`."""
        return any(_OUT_OF_MEMORY.search(line) for line in self._errors)

    def on_abort(self, tell: Callable[[str], None]) -> None:
        """Call `tell` with llama.cpp's last words before it aborts the process, on whatever thread that happens."""

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
        elif match := _BUFFER.match(line):
            key, size = (match[2], match[1]), round(float(match[3]) * (1 << 20))
            before = 0 if match[2] in PASSES else self.buffers.get(key, 0)  # a pass is reserved again and again
            self.buffers[key] = before + size
        # Its errors are no more than DEBUG: it counts aborted passes as such, and what matters to us is raised.
        log.log(logging.DEBUG if level in SHOWN_LEVELS else TRACE, "llama.cpp: %s", line)


@functools.cache
def library_log() -> LibraryLog:
    """The process's only LibraryLog: the library has one log callback."""
    return LibraryLog()
