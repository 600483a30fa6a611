"""Set-up finds a Python that will do, or says what is missing."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.serving import ROOT

OLD = "#!/bin/sh\nexit 1\n"
"""An interpreter that is too old, or a stand-in for one that is not installed: it fails whatever it is asked."""
BARE = '#!/bin/sh\ncase "$2" in *ensurepip*) exit 1;; esac\n'
"""A new one from a distribution that packs venv apart."""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "scripts").mkdir()
    shutil.copy(ROOT / "scripts" / "setup", tmp_path / "scripts")
    (tmp_path / "bin").mkdir()
    for tool in ("bash", "env", "dirname", "sh"):
        (tmp_path / "bin" / tool).symlink_to(str(shutil.which(tool)))
    return tmp_path


def command(project: Path, name: str, text: str) -> None:
    path = project / "bin" / name
    path.write_text(text)
    path.chmod(0o755)


def setup(project: Path, **environ: str) -> str:
    """What a set-up that must fail says."""
    env = {key: value for key, value in os.environ.items() if key != "PYTHON"} | environ
    result = subprocess.run(
        ["scripts/setup"],
        cwd=project,
        env=env | {"PATH": str(project / "bin")},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 1
    assert not (project / ".venv").exists()
    return result.stderr.strip()


def test_no_python(project: Path) -> None:
    assert setup(project).startswith("No Python 3.11 or newer was found.")


def test_only_old_ones(project: Path) -> None:
    for name in ("python3.13", "python3"):
        command(project, name, OLD)
    assert setup(project).startswith("No Python 3.11 or newer was found.")


def test_the_named_one_is_too_old(project: Path) -> None:
    command(project, "python3.9", OLD)
    command(project, "python3.13", BARE)
    assert setup(project, PYTHON="python3.9") == "PYTHON=python3.9 is not a Python 3.11 or newer."


def test_no_venv(project: Path) -> None:
    command(project, "python3.12", BARE)
    command(project, "python3", OLD)
    assert setup(project) == "python3.12 has no module venv. On Debian and Ubuntu: apt-get install python3-venv"
