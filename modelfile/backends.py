"""Loads llama.cpp's backends where they are modules (GGML_BACKEND_DL): one for each kind of device, and several for the
CPU, made for one generation of processors each, the variants.

Left to itself, llama.cpp looks for modules in the folder of the interpreter and in the working directory, and loads
whatever lies there. So every process that uses it calls `load` before anything else. A library that was built for one
processor has its backends inside; then nothing is loaded.

As a program, `python -m modelfile.backends FOLDER` prints the names of the variants that this processor can run as a
list in JSON, the best one first. That loads all of them: a matter for a process of its own.
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
"""The environment variable with the name of the variant to load; without it the best one is taken."""

_PACKAGE = "llama_cpp"
_CPU = "libggml-cpu"
_SUFFIX = ".so"  # also on macOS
_LOADED = re.compile(rb"loaded \S+ backend from (.+)")
_Log = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)


class NoBackend(RuntimeError):
    """llama.cpp has no backend for the CPU."""


def load(library: ctypes.CDLL) -> str:
    """Load what lies beside `library`, which is libllama. Returns the CPU's variant; empty if there is no choice.

    Raises NoBackend.
    """
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
    paths = [Path(os.fsdecode(found[1].strip())) for line in lines if (found := _LOADED.search(line))]
    cpu = next((path for path in paths if path.name.startswith(_CPU)), None)
    if cpu is None:
        said = b"".join(lines).decode("utf-8", "replace").strip()
        raise NoBackend(f"llama.cpp has no backend for this processor in {folder}{said and f': {said}'}")
    return _name(cpu)


def library_folder() -> Path | None:
    """Where llama-cpp-python has its libraries, found without importing it."""
    found = importlib.util.find_spec(_PACKAGE)
    places = found.submodule_search_locations if found else None
    return Path(next(iter(places))) / "lib" if places else None


def module_folder(library_folder: Path) -> Path | None:
    """Where the modules are: beside the library, or where a wheel has its programs. None if there are none."""
    folders = (library_folder, library_folder.parents[1] / "bin")
    return next((folder for folder in folders if any(folder.glob(f"{_CPU}*{_SUFFIX}"))), None)


def variants(folder: Path) -> list[str]:
    """The names of the CPU's variants in a folder of modules, in order of the alphabet."""
    return sorted(_name(path) for path in folder.glob(f"{_CPU}-*{_SUFFIX}"))


def best_first(library_folder: Path) -> list[str]:
    """The names of the variants that this processor can run, by llama.cpp's own score. Loads all of them."""
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
        # Else it would load one more module, from anywhere. The process's own environment, not Python's copy, counts.
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
    """The variant in a file's name: `haswell` of `libggml-cpu-haswell.so`."""
    return path.name.removeprefix(_CPU).removesuffix(_SUFFIX).removeprefix("-")


if __name__ == "__main__":
    print(json.dumps(best_first(Path(sys.argv[1]))))
