"""Which variant is chosen, what is remembered, and what the log says. Real modules, which are only never run."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from engine import cpu_variant
from engine.selftest import Outcome, SelfTest
from engine.spawn import child_environment
from modelfile import backends, operating_system
from modelfile.backends import VARIANT
from tests.modelfile.test_backends import compile_module

PASSED = SelfTest(Outcome.OK)
ILL = SelfTest(Outcome.DIED, "SIGILL (Illegal instruction) in Q8_0")
KILLED = SelfTest(Outcome.DIED, "SIGKILL (Killed)")
WRONG = SelfTest(Outcome.DIFFERS, "Q8_0 is off by 3")
LATE = SelfTest(Outcome.FAILED, "it did not end within 300 seconds")


class Machine:
    """A machine with three variants; `outcomes` are the self-tests of those that do not pass, `proved` whose it ran."""

    def __init__(self, site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.library = site / "llama_cpp/lib"
        self.library.mkdir(parents=True)
        for name, score in (("best", 9), ("middle", 5), ("simple", 1), ("unfit", 0)):
            compile_module(site / "bin", f"cpu-{name}", score)
        self.models = site / "models"
        self.outcomes: dict[str, SelfTest] = {}
        self.proved: list[str] = []
        monkeypatch.setattr(backends, "library_folder", lambda: self.library)
        monkeypatch.setattr(cpu_variant, "_prove", self._prove)

    def choose(self, **environ: str) -> str:
        """The variant that children are told."""
        self.proved.clear()
        return cpu_variant.choose({**os.environ, **environ}, self.models).get(VARIANT, "")

    def _prove(self, environ: Mapping[str, str]) -> SelfTest:
        self.proved.append(environ[VARIANT])
        return self.outcomes.get(environ[VARIANT], PASSED)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Machine:
    caplog.set_level(logging.INFO)
    return Machine(tmp_path, monkeypatch)


def test_the_best_one_is_proved_once(machine: Machine, caplog: pytest.LogCaptureFixture) -> None:
    assert (machine.choose(), machine.proved) == ("best", ["best"])
    assert "CPU variant best of llama.cpp: the engine's self-test passed" in caplog.text
    assert (machine.choose(), machine.proved) == ("best", [])
    assert "CPU variant best of llama.cpp, proved before on this processor" in caplog.text


@pytest.mark.parametrize("outcome", [ILL, WRONG])
def test_the_next_one_where_it_fails(machine: Machine, caplog: pytest.LogCaptureFixture, outcome: SelfTest) -> None:
    machine.outcomes = {"best": outcome, "middle": outcome}
    assert (machine.choose(), machine.proved) == ("simple", ["best", "middle", "simple"])
    warnings = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    assert [text.split(":")[0] for text in warnings] == [
        f"CPU variant {name} of llama.cpp is not used" for name in ("best", "middle")
    ]
    assert outcome.detail in warnings[0]
    assert (machine.choose(), machine.proved) == ("simple", [])


@pytest.mark.parametrize("outcome", [KILLED, LATE])
def test_a_self_test_that_could_not_run_proves_nothing(machine: Machine, outcome: SelfTest) -> None:
    machine.outcomes = {"best": outcome}
    assert (machine.choose(), machine.proved) == ("best", ["best"])
    machine.outcomes = {}
    assert (machine.choose(), machine.proved) == ("best", ["best"])


def test_all_fail(machine: Machine, caplog: pytest.LogCaptureFixture) -> None:
    machine.outcomes = dict.fromkeys(("best", "middle", "simple"), ILL)
    assert machine.choose() == "simple"
    assert "no CPU variant of llama.cpp computes right numbers here" in caplog.text
    assert (machine.choose(), len(machine.proved)) == ("simple", 3)


def test_another_library_or_processor_is_proved_anew(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.choose()
    (machine.library / "libllama.so").write_bytes(b"newer")
    assert (machine.choose(), machine.proved) == ("best", ["best"])
    other = tmp_path / "cpuinfo"
    other.write_text("processor: 0\nmodel name: other\nflags: fpu\n")
    monkeypatch.setattr(operating_system, "PROC", tmp_path)
    assert (machine.choose(), machine.proved) == ("best", ["best"])
    monkeypatch.undo()
    assert len(json.loads((machine.models / cpu_variant.CHOICES).read_text())) == 3


@pytest.mark.parametrize("text", ["", "[]", "{", '{"x": 1}', "null"])
def test_a_broken_memory(machine: Machine, text: str) -> None:
    machine.models.mkdir()
    (machine.models / cpu_variant.CHOICES).write_text(text)
    assert machine.choose() == "best"
    assert (machine.choose(), machine.proved) == ("best", [])


def test_a_memory_that_cannot_be_written(machine: Machine) -> None:
    machine.models.write_text("no folder")
    assert (machine.choose(), machine.choose()) == ("best", "best")


def test_a_variant_that_the_user_names(machine: Machine, caplog: pytest.LogCaptureFixture) -> None:
    environ = {VARIANT: "middle"}
    assert (machine.choose(**environ), machine.proved) == ("", [])
    assert child_environment(environ)[VARIANT] == "middle"
    assert f"CPU variant middle of llama.cpp, as {VARIANT} says" in caplog.text


def test_a_library_without_variants(machine: Machine, caplog: pytest.LogCaptureFixture) -> None:
    assert cpu_variant.available() == ["best", "middle", "simple", "unfit"]
    for path in machine.library.parents[1].glob("bin/*"):
        path.unlink()
    (machine.library / "libggml-cpu.so").touch()
    assert (machine.choose(), machine.proved, caplog.text) == ("", [], "")
    assert cpu_variant.available() == []


def test_children_do_not_learn_of_other_modules() -> None:
    assert "GGML_BACKEND_PATH" not in child_environment({"GGML_BACKEND_PATH": "/tmp/x.so", "GGML_CUDA_X": "1"})
