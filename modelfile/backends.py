"""Loads llama.cpp's backend modules (GGML_BACKEND_DL): one per kind of device, and one per CPU generation (variants).

By default llama.cpp loads modules from the interpreter's folder and from the working directory. So every process that
uses it calls `load` first. A library built for one processor has its backends inside; then nothing is loaded.

`python -m modelfile.backends FOLDER` prints the variants that this processor can run as a JSON list, the best first.
That loads all of them, hence a process of its own.
"""

from __future__ import annotations

import ctypes
import importlib.util
import json
import os
import re
import sys
from pathlib import Path

VARIANT = "PRONK_RUNNER_CPU_VARIANT"
"""Environment variable with the name of the variant to load; by default the best one."""

_PACKAGE = "llama_cpp"
_CPU = "libggml-cpu"
_SUFFIX = ".so"  # also on macOS
_NO_GPU = {"base", "cpu", "blas", "rpc"}
_BACKEND = re.compile(r"libggml-([a-z]+)")
_LOADED = re.compile(rb"loaded \S+ backend from (.+)")
_Log = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)


class NoBackend(RuntimeError):
    """llama.cpp has no backend for the CPU."""


def load(library: ctypes.CDLL) -> str:
    """Load the modules beside `library` (libllama). Returns the CPU variant, or "". Raises NoBackend."""
    if library.ggml_backend_reg_count():
        return ""
    folder = module_folder(Path(library._name).parent)
    if folder is None:
        raise NoBackend(f"there are no modules of llama.cpp beside {library._name}")
    lines: list[bytes] = []
    hear = _Log(lambda _level, text, _data: lines.append(text))
    library.ggml_log_set(hear, None)
    try:
        _load(library, folder, os.environ.get(VARIANT, ""))
    finally:
        library.ggml_log_set(None, None)
    paths = [Path(os.fsdecode(match[1].strip())) for line in lines if (match := _LOADED.search(line))]
    cpu = next((path for path in paths if path.name.startswith(_CPU)), None)
    if cpu is None:
        output = b"".join(lines).decode("utf-8", "replace").strip()
        raise NoBackend(f"llama.cpp has no backend for this processor in {folder}{output and f': {output}'}")
    return _name(cpu)


def library_folder() -> Path | None:
    """The folder of llama-cpp-python's libraries, found without importing it."""
    spec = importlib.util.find_spec(_PACKAGE)
    places = spec.submodule_search_locations if spec else None
    return Path(next(iter(places))) / "lib" if places else None


def module_folder(library_folder: Path) -> Path | None:
    """The folder of the modules: beside the library, or a wheel's `bin`. None without modules."""
    folders = (library_folder, library_folder.parents[1] / "bin")
    return next((folder for folder in folders if any(folder.glob(f"{_CPU}*{_SUFFIX}"))), None)


def gpu_backends() -> frozenset[str]:
    """The backends for GPUs that llama.cpp is compiled with, such as "cuda", by the libraries that there are."""
    library = library_folder()
    if library is None:
        return frozenset()
    folders = {library, module_folder(library) or library}
    paths = (path for folder in folders for path in folder.glob("libggml-*") if path.suffix in (".so", ".dylib"))
    names = (_BACKEND.match(path.name) for path in paths)
    return frozenset(match[1] for match in names if match) - _NO_GPU


def variants(folder: Path) -> list[str]:
    """The CPU variants in a folder of modules, sorted by name."""
    return sorted(_name(path) for path in folder.glob(f"{_CPU}-*{_SUFFIX}"))


def best_first(library_folder: Path) -> list[str]:
    """The variants that this processor can run, by llama.cpp's own score. Loads all of them."""
    folder = module_folder(library_folder)
    if folder is None:
        return []
    for base in sorted(library_folder.glob("libggml-base.*"))[:1]:  # what all modules need
        ctypes.CDLL(str(base))
    scores = {name: ctypes.CDLL(str(_path(folder, name))).ggml_backend_score() for name in variants(folder)}
    return sorted((name for name, score in scores.items() if score), key=lambda name: -scores[name])


def _load(library: ctypes.CDLL, folder: Path, variant: str) -> None:
    library.ggml_backend_load.restype = ctypes.c_void_p
    if not variant:
        # It names one more module to load. llama.cpp reads the C environment, not Python's copy.
        ctypes.CDLL(None).unsetenv(b"GGML_BACKEND_PATH")
        library.ggml_backend_load_all_from_path(os.fsencode(folder))
        return
    for path in sorted(folder.glob(f"libggml-*{_SUFFIX}")):
        if not path.name.startswith((_CPU, "libggml-base")):
            library.ggml_backend_load(os.fsencode(path))
    library.ggml_backend_load(os.fsencode(_path(folder, variant)))


def _path(folder: Path, variant: str) -> Path:
    return folder / f"{_CPU}-{variant}{_SUFFIX}"


def _name(path: Path) -> str:
    """The variant in a file name: `haswell` for `libggml-cpu-haswell.so`."""
    return path.name.removeprefix(_CPU).removesuffix(_SUFFIX).removeprefix("-")


if __name__ == "__main__":
    print(json.dumps(best_first(Path(sys.argv[1]))))
