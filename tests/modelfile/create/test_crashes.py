"""A program that is killed while it makes a model leaves a store that is whole."""

import subprocess
import sys
import tempfile
from pathlib import Path

from tests.serving import ROOT

MEMORY = Path("/dev/shm")


def test_death_at_every_point() -> None:
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as directory:
        command = [sys.executable, "-m", "tests.modelfile.create.crashes", directory]
        result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert int(result.stdout) > 40
