"""What is said of an environment; `pronk doctor` as a whole is tried in tests/cli."""

import pytest

from engine import cpu_variant
from modelfile.backends import VARIANT
from server.doctor import Level, environment
from server.settings import Settings


def said(**environ: str) -> tuple[Level, tuple[str, ...], tuple[str, ...]]:
    finding = environment(Settings.from_env(environ))
    return finding.level, finding.problems, finding.notes


def test_a_backend_from_elsewhere() -> None:
    note = "GGML_BACKEND_PATH changes nothing here: only llama.cpp's own backends are loaded"
    assert said(GGML_BACKEND_PATH="/some/backend.so") == (Level.NOTE, (), (note,))


def test_a_variant_where_there_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu_variant, "available", list[str])
    note = f"{VARIANT} has no effect: this engine has no variants"
    assert said(**{VARIANT: "haswell"}) == (Level.NOTE, (), (note,))


def test_a_variant_that_there_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu_variant, "available", lambda: ["haswell", "x64"])
    assert said(**{VARIANT: "x64"}) == (Level.OK, (), ())
    problem = f"{VARIANT} names no variant of this engine, which has haswell, x64: 'nonsense'"
    assert said(**{VARIANT: "nonsense"}) == (Level.WRONG, (problem,), ())
