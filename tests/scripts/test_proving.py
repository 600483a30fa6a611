"""What set-up does with a library that does not work here: a real pip, a package that turns out as its flags say.

The self-test is real, too, but for the number of quantisations; `tests/engine/test_selftest.py` has all of them.
"""

import shlex
import shutil
import subprocess
import tarfile
import venv
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pip
import pytest
import typing_extensions

from engine import selftest
from scripts.build_flags import Facts
from scripts.install_engine import Installer
from tests.engine.broken_library import COMPUTES_WRONGLY, DIES, broken_library

WANTED = "llama-cpp-python==0.3.36"
SOURCE = "llama_cpp_python-0.3.36"
FLAGS = ("sse4_2", "avx", "avx2", "bmi2", "fma", "f16c", "avx512f", "amx_tile", "amx_int8", "amx_bf16")
XEON = Facts("x86_64", "gcc", (12, 2, 0), frozenset(FLAGS))
PLAIN = Facts("riscv64", "gcc", (12, 2, 0), frozenset())
BACKEND = """
import os, zipfile

def build_wheel(folder, config_settings=None, metadata_directory=None):
    print("*** [1/1] Building CXX object")
    args = os.environ.get("CMAKE_ARGS", "")
    with open(os.environ["FLAGS"], "a") as flags:
        flags.write(args + "\\n")
    outcomes = eval(os.environ["OUTCOMES"])
    text = next((text for flag, text in outcomes.items() if flag in args), "")
    name = "llama_cpp_python-0.3.36"
    with zipfile.ZipFile(os.path.join(folder, name + "-py3-none-any.whl"), "w") as wheel:
        for file in ("__init__.py", "_ctypes_extensions.py"):
            wheel.write(os.path.join("llama_cpp", file), "llama_cpp/" + file)
        wheel.writestr("llama_cpp/llama_cpp.py", open("llama_cpp/llama_cpp.py").read() + text)
        info = name + ".dist-info/"
        wheel.writestr(info + "METADATA", "Metadata-Version: 2.1\\nName: llama_cpp_python\\nVersion: 0.3.36\\n")
        wheel.writestr(info + "WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        wheel.writestr(info + "RECORD", "")
    return name + "-py3-none-any.whl"
"""
PROJECT = """
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
"""
DEAD = DIES.format(signal="SIGILL")
WRONG = COMPUTES_WRONGLY.format(by=1.5)


class Machine:
    """An interpreter with pip, and an index with one source package on it."""

    def __init__(self, python: str, folder: Path) -> None:
        self.python = python
        self.flags = folder / "flags"
        self.log = folder / "log"
        self.cache = folder / "cache"
        self._make_source(folder)
        self.environ = {
            "PATH": "/usr/bin:/bin",
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": str(folder / "index"),
            "PIP_CACHE_DIR": str(self.cache),
            "PIP_CONFIG_FILE": "/dev/null",
            "FLAGS": str(self.flags),
            "OUTCOMES": "{}",
        }

    def install(self, *, rebuild: bool = False, facts: Facts = XEON, **outcomes: str) -> int:
        """Run the set-up; `outcomes`: what comes of flags that have this in them (underscores for dashes)."""
        by_flag = {flag.replace("_", "-"): text for flag, text in outcomes.items()}
        environ = self.environ | {"OUTCOMES": repr(by_flag)}
        return Installer(WANTED, facts, environ, self.python, self.log).run(rebuild=rebuild)

    def compiled(self) -> list[str]:
        """The compiler's flags of all builds so far."""
        lines = self.flags.read_text().splitlines() if self.flags.exists() else []
        words = [next(iter(shlex.split(line)), "") for line in lines]
        return [word.removeprefix("-DCMAKE_C_FLAGS=") for word in words]

    def pip(self, *arguments: str, **environ: str) -> None:
        subprocess.run(
            [self.python, "-m", "pip", *arguments], env=self.environ | environ, check=True, capture_output=True
        )

    def uninstall(self) -> None:
        """Remove the package. pip would do the same in half a second."""
        for folder in Path(self.python).parents[1].glob("lib/python3*/site-packages/llama_cpp*"):
            shutil.rmtree(folder)

    def cached(self) -> int:
        """How many wheels pip's cache has."""
        return len(list(self.cache.rglob("llama_cpp_python*.whl")))

    def _make_source(self, folder: Path) -> None:
        source = folder / SOURCE
        source.mkdir()
        broken_library(source, "")
        (source / "backend.py").write_text(BACKEND)
        (source / "pyproject.toml").write_text(PROJECT)
        (source / "PKG-INFO").write_text("Metadata-Version: 2.1\nName: llama_cpp_python\nVersion: 0.3.36\n")
        (folder / "index").mkdir()
        with tarfile.open(folder / "index" / f"{SOURCE}.tar.gz", "w:gz") as archive:
            archive.add(source, SOURCE)


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An interpreter with pip and what llama-cpp-python needs, lent to it: to install pip takes five seconds."""
    folder = tmp_path_factory.mktemp("python")
    venv.create(folder / "venv", symlinks=True)
    lent = folder / "lent"
    lent.mkdir()
    numpy = Path(np.__file__).parent
    packages = Path(pip.__file__).parent, numpy, numpy.with_name("numpy.libs"), Path(typing_extensions.__file__)
    for package in packages:
        if package.exists():
            (lent / package.name).symlink_to(package)
    (site,) = (folder / "venv" / "lib").glob("python*/site-packages")
    (site / "lent.pth").write_text(f"{lent}\n")
    return str(folder / "venv" / "bin" / "python")


@pytest.fixture
def machine(python: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    monkeypatch.setattr(selftest, "MODULE", "tests.scripts.quick_selftest")
    machine = Machine(python, tmp_path)
    yield machine
    machine.uninstall()


def test_it_goes_on_until_one_is_right(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    assert machine.install(fno_dse=DEAD, mno_avx512f=WRONG, mno_amx_tile=DEAD) == 0
    assert machine.compiled() == [
        "-fno-dse -fno-tree-dse",
        "-mno-amx-tile -mno-amx-int8 -mno-amx-bf16",
        "-mno-amx-tile -mno-amx-int8 -mno-amx-bf16 -mno-avx512f",
        "-DGGML_NATIVE=OFF",
    ]
    told = capsys.readouterr().out
    assert told.count("It is not right: the engine's self-test died on ") == 2
    assert "SIGILL (Illegal instruction) in Q8_0" in told
    assert "It is not right: the engine computes wrong numbers on " in told
    assert "Compiling llama.cpp again without AMX: " in told
    assert told.splitlines()[-1].startswith("The engine's self-test passed: ")
    assert machine.cached() == 0, "neither what is wrong nor what is slow is for others"


def test_nothing_is_right(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    assert machine.install(facts=PLAIN, **{"": DEAD}) == 1
    assert machine.compiled() == ["", "-DGGML_NATIVE=OFF"]
    assert (
        f"is right with no flags known to us; the output of all builds is in {machine.log}" in capsys.readouterr().err
    )
    assert machine.cached() == 0


def test_a_cached_wheel_that_was_made_elsewhere(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    machine.pip("install", WANTED, OUTCOMES=repr({"": DEAD}))
    machine.uninstall()
    assert machine.cached() == 1
    assert machine.install(facts=PLAIN) == 0
    assert (
        "The one in pip's cache was not made for this machine: the engine's self-test died" in capsys.readouterr().out
    )
    assert machine.compiled() == ["", ""]
    machine.uninstall()
    assert machine.install(facts=PLAIN) == 0
    assert machine.compiled() == ["", ""], "the right one is in the cache now"
    assert machine.install(facts=PLAIN) == 0, "and nothing is done where it is installed"
    assert machine.install(facts=PLAIN, rebuild=True) == 0
    assert machine.compiled() == ["", "", ""]


def test_an_installed_one_that_was_made_elsewhere(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    vulkan = replace(PLAIN, cmake_args="-DGGML_VULKAN=on")
    machine.pip("install", WANTED, OUTCOMES=repr({"": WRONG}))
    assert machine.install(facts=vulkan) == 0
    assert "What is installed was not made for this machine: the engine computes wrong" in capsys.readouterr().out
    assert machine.compiled() == ["", "-DGGML_VULKAN=on"]
    assert machine.cached() == 0, "another's flags are not for everybody"


def test_a_cached_wheel_that_is_slow_here(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    """It is right, but a native build would use more of the processor."""
    machine.pip("install", WANTED)
    machine.uninstall()
    facts = Facts("x86_64", "gcc", (14, 2, 0), frozenset({"avx", "amx_int8"}))
    assert machine.install(facts=facts) == 0
    assert "was not made for this machine: it makes no use of " in capsys.readouterr().out
    assert machine.compiled() == ["", ""]
