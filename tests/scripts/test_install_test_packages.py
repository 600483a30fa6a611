"""What tests need from outside Python is installed where that can be done; elsewhere one line says so, and no more."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.serving import ROOT

ASKED = "nodejs npm docker-registry openssh-client zsh fish"
APT = """#!/bin/sh
echo "$@" >> "$BIN/asked"
for last; do :; done
[ "$last" != "$FAILS" ] || exit 100
case "$*" in *download-only*|*update) exit 0;; esac
case "$last" in nodejs) set node;; openssh-client) set ssh-keygen;; *) set "$last";; esac
printf '#!/bin/sh\\n' > "$BIN/$1"; chmod +x "$BIN/$1"
"""
"""An apt-get whose packages are their programs; what FAILS names is not to be had."""


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """A folder that is all of PATH."""
    for tool in ("bash", "env", "timeout", "sh", "chmod", "true"):
        (tmp_path / tool).symlink_to(str(shutil.which(tool)))
    add(tmp_path, "id", "#!/bin/sh\necho 0\n")
    return tmp_path


def add(programs: Path, name: str, text: str) -> None:
    path = programs / name
    path.write_text(text)
    path.chmod(0o755)


def install(programs: Path, *, ci: str = "", fails: str = "") -> list[str]:
    """The lines that it says."""
    env = {"PATH": str(programs), "BIN": str(programs), "CI": ci, "FAILS": fails}
    script = ROOT / "scripts" / "install-test-packages"
    result = subprocess.run([script], env=env, capture_output=True, text=True, timeout=60, check=True)
    return (result.stdout + result.stderr).splitlines()


def test_all_can_be_had(programs: Path) -> None:
    add(programs, "apt-get", APT)
    assert install(programs) == [f"Installing with apt-get: {ASKED}"]
    assert os.access(programs / "docker-registry", os.X_OK)
    assert install(programs) == []


def test_one_that_the_distribution_does_not_have_costs_only_itself(programs: Path) -> None:
    add(programs, "apt-get", APT)
    assert install(programs, fails="npm")[1:] == [
        "Not installed (apt-get install failed): npm. The tests that need them are skipped."
    ]


def test_no_apt_get(programs: Path) -> None:
    assert install(programs) == [f"Not installed (there is no apt-get): {ASKED}. The tests that need them are skipped."]
    [line] = install(programs, ci="true")
    assert line.endswith("The tests that need them fail, because CI is set.")


def test_no_network(programs: Path) -> None:
    add(programs, "apt-get", APT)
    [line] = install(programs, fails="update")
    assert line.startswith(f"Not installed (apt-get update failed): {ASKED}.")


def test_neither_root_nor_sudo(programs: Path) -> None:
    add(programs, "apt-get", APT)
    add(programs, "id", "#!/bin/sh\necho 1000\n")
    add(programs, "sudo", '#!/bin/sh\n[ "$1" = -n ] && exit 1\nsleep 100\n')
    [line] = install(programs)
    assert line.startswith("Not installed (neither root nor sudo without a password): ")
    assert not (programs / "asked").exists()


def test_sudo_without_a_password(programs: Path) -> None:
    add(programs, "apt-get", APT)
    add(programs, "id", "#!/bin/sh\necho 1000\n")
    add(programs, "sudo", '#!/bin/sh\nshift\nexec "$@"\n')
    assert install(programs) == [f"Installing with apt-get: {ASKED}"]
