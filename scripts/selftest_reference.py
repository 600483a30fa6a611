"""Writes the reference logits of `engine/runner/selftest.py`: `python -m scripts.selftest_reference`.

Run it by hand when the self-test's inputs or the pinned llama.cpp change, on a build known to be right. Then run it
with `--compare` on builds with other flags, to print their deviations: the tolerances are several times these.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.runner.selftest import QUANTIZATIONS, REFERENCE, compare, compute, condense, quantize, start


def main() -> int:
    """Write or compare; returns the exit code."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--compare", action="store_true", help="write nothing, print the deviations")
    only_compare = parser.parse_args().compare
    silent = start()
    arrays: dict[str, npt.NDArray[Any]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for quantization in QUANTIZATIONS:
            path = Path(folder) / "model.gguf"
            quantize(path, quantization)
            logits = compute(path)
            if only_compare:
                with np.load(REFERENCE) as stored:
                    keys = ("values", "best", "best_values")
                    print(compare(logits, {key: stored[f"{quantization.name}.{key}"] for key in keys}, quantization))
            arrays |= {f"{quantization.name}.{key}": array for key, array in condense(logits).items()}
    del silent
    if not only_compare:
        np.savez_compressed(REFERENCE, allow_pickle=False, **arrays)
    return 0


if __name__ == "__main__":
    sys.exit(main())
