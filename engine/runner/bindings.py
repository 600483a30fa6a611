"""llama-cpp-python's low-level bindings, and nothing else of it: `from engine.runner.bindings import C`.

The package's own start imports a chat layer, a template engine and a disk cache. A child needs none of them, and
they are four fifths of its time to start and half of its memory.
"""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

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
