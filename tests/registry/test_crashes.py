"""A store whose process was killed, at any point of any change, is whole."""

import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MEMORY = Path("/dev/shm")
"""A killed process, other than a power cut, loses nothing that it wrote: no need to wait for a disk 5,000 times."""


def test_death_at_every_point() -> None:
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as directory:
        command = [sys.executable, "-m", "tests.registry.crashes", directory]
        result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert int(result.stdout) > 150
