"""A build that takes long: what is shown of it, what remains of it when it fails."""

import io
import re
import sys
from pathlib import Path

import pytest

from scripts.install_engine import ROOT, Progress, explain, install, requirement

BUILD = """
import sys, time
print("Collecting things")
for step in range(1, 4):
    print(f"  [{step}/3] Building CXX object", flush=True)
    time.sleep(0.2)
sys.exit(%d)
"""


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


def build(code: int) -> list[str]:
    return [sys.executable, "-c", BUILD % code]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "build.log"


def test_the_requirement_of_this_project() -> None:
    assert re.fullmatch(r"llama-cpp-python==[0-9.]+", requirement(ROOT / "pyproject.toml"))


def test_lines_for_a_file(log: Path) -> None:
    out = io.StringIO()
    progress = Progress(out)
    assert progress.interval > 1
    progress.interval = 0.05
    assert install(build(0), log, progress) == 0
    lines = out.getvalue().splitlines()
    assert re.fullmatch(r"   0:0\d  compiling llama\.cpp, step [123]/3", lines[-1])
    assert log.read_text().splitlines()[0] == "Collecting things"
    assert log.read_text().count("Building") == 3


def test_one_line_for_a_person(log: Path) -> None:
    screen = Screen()
    progress = Progress(screen)
    progress.interval = 0.05
    install(build(0), log, progress)
    assert "\n" not in screen.getvalue()
    assert screen.getvalue().endswith("\r\x1b[K")


def test_a_failure(log: Path) -> None:
    assert install(build(7), log, Progress(io.StringIO())) == 7
    told = explain(log)
    assert "[3/3] Building CXX object" in told
    assert str(log) in told
    assert "compiler" not in told


def test_a_machine_without_a_compiler(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log.touch()
    monkeypatch.setenv("PATH", str(log.parent))
    assert "No C++ compiler was found" in explain(log)


@pytest.mark.parametrize(
    ("line", "step"),
    [
        ("  [12/345] Building C object", "12/345"),
        ("[ 7%] Building CXX object", "7%"),
        ("[1/2", None),
        ("x [1/2]", None),
    ],
)
def test_steps(line: str, step: str | None) -> None:
    out = io.StringIO()
    progress = Progress(out)
    progress.feed(line)
    progress.show()
    assert out.getvalue().endswith(f"step {step}\n" if step else "preparing\n")
