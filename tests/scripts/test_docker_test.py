"""What can be said of the test of the image without building one."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from scripts import docker_test


@pytest.mark.parametrize(("variables", "code"), [({}, 0), ({"CI": "1"}, 1)])
def test_where_it_cannot_be_done_is_a_reason(
    variables: dict[str, str], code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert docker_test.main() == code
    assert capsys.readouterr().err == ("The image was not tested: buildah and debootstrap are run by root, on Linux.\n")


def test_the_engine_that_is_installed_becomes_a_wheel_again(tmp_path: Path) -> None:
    docker_test.pack(tmp_path)
    [wheel] = tmp_path.iterdir()
    target = tmp_path / "target"
    command = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--quiet", "--target", str(target)]
    subprocess.run([*command, str(wheel)], check=True)
    with zipfile.ZipFile(wheel) as packed:
        libraries = [name for name in packed.namelist() if name.endswith("llama_cpp/lib/libllama.so")]
    assert libraries
    assert all((target / name).stat().st_size > 1 << 20 for name in libraries)
