"""The self-test of the compiled library: what is right passes, what dies or computes wrongly is told apart."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from engine import selftest
from engine.runner.selftest import QUANTIZATIONS, REFERENCE
from engine.selftest import Outcome
from tests.engine.broken_library import COMPUTES_WRONGLY, DIES, TURNS_TOO_FAR, broken_library

NAMES = [quantization.name for quantization in QUANTIZATIONS]


async def test_the_installed_library_is_right() -> None:
    result = await selftest.run_async()
    assert result.ok, result
    assert [entry.name for entry in result.quantizations] == NAMES == ["Q8_0", "Q4_0", "Q4_K_M", "F16", "BF16"]
    assert all(entry.deviation <= entry.tolerance and entry.largest <= entry.limit for entry in result.quantizations)
    assert result.library == "0.3.36"
    assert "CPU" in result.features
    assert result.sentence.startswith("the engine's self-test passed: Q8_0, Q4_0, Q4_K_M, F16, BF16 on ")


@pytest.mark.parametrize("number", [signal.SIGILL, signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGABRT])
def test_one_that_dies(tmp_path: Path, number: signal.Signals) -> None:
    result = selftest.run(environ=os.environ | broken_library(tmp_path, DIES.format(signal=number.name)))
    assert result.outcome is Outcome.DIED
    assert result.detail.startswith(f"{number.name} ({signal.strsignal(number)}) in Q8_0")
    assert selftest.processor() in result.sentence
    assert "\n" not in result.sentence


def test_one_that_computes_other_numbers(tmp_path: Path) -> None:
    result = selftest.run(environ=os.environ | broken_library(tmp_path, COMPUTES_WRONGLY.format(by=2.0)))
    assert result.outcome is Outcome.DIFFERS
    assert not any(entry.ok for entry in result.quantizations)
    assert "Q8_0 is off by" in result.sentence


def test_one_that_computes_slightly_other_numbers(tmp_path: Path) -> None:
    """The best tokens may well stay the same."""
    result = selftest.run(environ=os.environ | broken_library(tmp_path, TURNS_TOO_FAR.format(by=1.01)))
    assert result.outcome is Outcome.DIFFERS
    assert not any(entry.ok for entry in result.quantizations)


def test_one_that_computes_what_is_no_number(tmp_path: Path) -> None:
    result = selftest.run(environ=os.environ | broken_library(tmp_path, COMPUTES_WRONGLY.format(by="float('nan')")))
    assert result.outcome is Outcome.DIFFERS
    assert "Q8_0 gives what is no number" in result.sentence


def test_one_that_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "llama_cpp.py").write_text("raise OSError('libllama.so: cannot open shared object file')")
    result = selftest.run(environ=os.environ | {"PYTHONPATH": str(tmp_path)})
    assert result.outcome is Outcome.FAILED
    assert result.sentence.startswith("the engine's self-test could not run: exit status 1: ")


def test_libraries_in_another_folder(tmp_path: Path) -> None:
    result = selftest.run(lib_dir=tmp_path)
    assert result.outcome is Outcome.FAILED
    assert "Shared library with base name 'llama' not found" in result.detail


def test_one_that_does_not_end() -> None:
    result = selftest.run(timeout=0.01)
    assert result.outcome is Outcome.FAILED
    assert "did not end within" in result.detail


def test_it_needs_nothing_but_the_library_and_numpy() -> None:
    """Set-up runs it before the rest is installed."""
    script = (
        "import sys; from engine import selftest; import engine.runner.selftest as child; silent = child.start();"
        "from engine.runner import batch, vocabulary; print(*{name.partition('.')[0] for name in sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    foreign = set(done.stdout.split()) - sys.stdlib_module_names
    assert (
        foreign
        <= {"engine", "modelfile", "numpy", "llama_cpp", "typing_extensions", "__main__"} | _from_the_environment()
    )


def test_the_reference_is_small() -> None:
    assert REFERENCE.stat().st_size < 64 << 10


def _from_the_environment() -> set[str]:
    """What Python imports by itself here, from the .pth files of the environment."""
    script = "import sys; print(*{name.partition('.')[0] for name in sys.modules})"
    return set(
        subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    )
