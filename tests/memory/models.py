"""Small models for measurements: those that are bundled, SmolLM2-135M if a package with it can be had, tiny ones.

`python -m tests.memory.models SOURCE TARGET TYPE` requantises a file.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from scripts.smollm2 import Unavailable, gguf
from tests.engine.runner.recurrent import mamba
from tests.engine.runner.windowed import windowed
from tests.modelfile.published.pairs import PAIRS

CACHE = Path(__file__).parents[2] / ".cache" / "memory"
TINY = ("glm4moelite", "gptoss", "lfm2", "laguna", "olmo3", "qwen3next")
"""Pairs with a compressed state, experts, short convolutions, sliding windows, a recurrent state."""
WINDOWS = "windows"
"""One whose windows are much shorter than its context."""
FILE_TYPES = {"f16": 1, "q4_0": 2, "q8_0": 7}


def tiny(folder: Path) -> dict[str, Path]:
    """Models with random weights, of several architectures."""
    made = {name: PAIRS[name]().expected.write(folder / f"{name}.gguf") for name in TINY}
    made["mamba"] = mamba().write(folder / "mamba.gguf")
    return made | {WINDOWS: windowed(folder / f"{WINDOWS}.gguf")}


def smollm2() -> Path | None:
    """SmolLM2-135M in Q4_1; None if it cannot be had."""
    try:
        return gguf()
    except Unavailable:
        return None


def requantised(source: Path, kind: str) -> Path:
    """The same weights in another type, kept in `.cache`."""
    target = CACHE / f"smollm2-{kind}.gguf"
    if not target.is_file():
        CACHE.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "tests.memory.models", str(source), str(target), kind]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return target


if __name__ == "__main__":
    from engine.runner.llamacpp import C

    old, new, wanted = sys.argv[1:]
    params = C.llama_model_quantize_default_params()
    params.ftype, params.allow_requantize = FILE_TYPES[wanted], True
    unfinished = f"{new}.partial"
    if C.llama_model_quantize(old.encode(), unfinished.encode(), params):
        raise SystemExit("llama.cpp could not do it")
    Path(unfinished).rename(new)
