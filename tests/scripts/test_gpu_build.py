"""`scripts/gpu_build.sh` refuses what it cannot do in one line. What it builds is tried by hand, as it compiles."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "scripts" / "gpu_build.sh"


def run(folder: Path, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """The script in a folder of its own."""
    (folder / "scripts").mkdir()
    copy = shutil.copy(SCRIPT, folder / "scripts")
    command = ["bash", copy, *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, env={"PATH": "/usr/bin:/bin", **environ}
    )


def test_without_a_pack_it_says_how_to_make_one(tmp_path: Path) -> None:
    done = run(tmp_path)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "scripts/gpu_build.sh pack" in done.stderr


def test_an_unknown_word_gets_the_usage(tmp_path: Path) -> None:
    done = run(tmp_path, "bild")
    assert (done.returncode, done.stderr) == (1, "usage: scripts/gpu_build.sh [pack]\n")


def test_a_missing_compiler_is_named(tmp_path: Path) -> None:
    (tmp_path / ".gpu").mkdir()
    (tmp_path / ".gpu" / "llama-cpp-python.tar.xz").touch()
    done = run(tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("nvcc was not found")
