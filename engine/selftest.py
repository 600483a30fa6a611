"""Proves the compiled library in a child process: it died, computes other numbers than it should, or is right.

Standard library only: set-up runs this before anything else is installed.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from modelfile.crashes import name_of, processor, remedy

__all__ = [
    "Outcome",
    "QuantizationResult",
    "SelfTest",
    "name_of",
    "processor",
    "remedy",
    "run",
    "run_async",
    "verdict_of",
]

ROOT = Path(__file__).resolve().parents[1]
MODULE = "engine.runner.selftest"
STAGE = "stage: "  # as engine/runner/selftest.py writes it
TIMEOUT = 300.0  # seconds; on two slow cores it takes five


class Outcome(StrEnum):
    """How the child ended."""

    OK = "ok"
    DIFFERS = "differs"
    DIED = "died"
    FAILED = "failed"  # it could not do its work, or not in time


@dataclass(frozen=True, slots=True)
class QuantizationResult:
    """What came of one quantisation. `deviation` is the root mean square of how far its logits are off, `largest` the
    most, `tolerance` and `limit` what is allowed: all in standard deviations of a row, -1 for what is no number; `best`
    counts rows in which another token won."""

    name: str
    ok: bool
    deviation: float
    tolerance: float
    largest: float
    limit: float
    best: int


@dataclass(frozen=True, slots=True)
class SelfTest:
    """What came of all. `library` is the version of llama-cpp-python, `features` what llama.cpp is compiled for;
    both are empty where the child did not live to tell. `detail` is the reason where it is not OK."""

    outcome: Outcome
    detail: str = ""
    library: str = ""
    features: str = ""
    quantizations: tuple[QuantizationResult, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether the library computes what it should."""
        return self.outcome is Outcome.OK

    @property
    def sentence(self) -> str:
        """One line for a person."""
        match self.outcome:
            case Outcome.OK:
                names = ", ".join(each.name for each in self.quantizations)
                return f"the engine's self-test passed: {names} on {processor()}"
            case Outcome.DIED:
                return f"the engine's self-test died on {processor()}: {self.detail}"
            case Outcome.DIFFERS:
                return f"the engine computes wrong numbers on {processor()}: {self.detail}"
            case Outcome.FAILED:
                return f"the engine's self-test could not run: {self.detail}"


def run(
    *,
    python: str = sys.executable,
    lib_dir: Path | None = None,
    environ: Mapping[str, str] | None = None,
    timeout: float = TIMEOUT,
) -> SelfTest:
    """Test what `python` has installed, or the libraries in `lib_dir`. Blocks for some seconds.

    `environ` is the child's environment, None for our own.
    """
    with tempfile.TemporaryDirectory(prefix="pronk-selftest-") as folder:
        command = _command(python, lib_dir, folder)
        try:
            done = subprocess.run(
                command,
                cwd=ROOT,
                env=environ,
                capture_output=True,
                timeout=timeout,
                stdin=subprocess.DEVNULL,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            return _timed_out(timeout, error.stderr or b"")
        except OSError as error:
            return SelfTest(Outcome.FAILED, f"{python}: {error.strerror}")
    return verdict_of(done.returncode, done.stdout, done.stderr)


async def run_async(*, lib_dir: Path | None = None, environ: Mapping[str, str] | None = None) -> SelfTest:
    """As `run`, on an event loop; the child is killed if this is cancelled."""
    with tempfile.TemporaryDirectory(prefix="pronk-selftest-") as folder:
        try:
            child = await asyncio.create_subprocess_exec(
                *_command(sys.executable, lib_dir, folder),
                cwd=ROOT,
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
        except OSError as error:
            return SelfTest(Outcome.FAILED, f"{sys.executable}: {error.strerror}")
        try:
            out, err = await asyncio.wait_for(child.communicate(), TIMEOUT)
        except TimeoutError:
            return _timed_out(TIMEOUT, b"")
        finally:
            if child.returncode is None:
                child.kill()
                await child.wait()
    assert child.returncode is not None
    return verdict_of(child.returncode, out, err)


def verdict_of(code: int, stdout: bytes, stderr: bytes) -> SelfTest:
    """What a child's exit code (negative: the signal that killed it) and output mean."""
    lines = stderr.decode("utf-8", "replace").splitlines()
    if code < 0:
        return SelfTest(Outcome.DIED, f"{name_of(-code)}{_stage(lines)}{_last_words(lines)}")
    try:
        report = json.loads(stdout)
        quantizations = tuple(QuantizationResult(**each) for each in report["quantizations"])
        found = SelfTest(Outcome.OK, report["error"], report["library"], report["features"], quantizations)
    except (ValueError, KeyError, TypeError):
        return SelfTest(Outcome.FAILED, f"exit status {code}{_stage(lines)}{_last_words(lines)}")
    if report["ok"] is True and code == 0:
        return found
    wrong = "; ".join(_how_wrong(each) for each in quantizations if not each.ok)
    detail = "; ".join(text for text in (found.detail, wrong) if text)
    return SelfTest(Outcome.DIFFERS, detail, found.library, found.features, quantizations)


def _command(python: str, lib_dir: Path | None, folder: str) -> Sequence[str]:
    command = [python, "-m", MODULE, "--folder", folder]
    return command if lib_dir is None else [*command, "--lib-dir", str(lib_dir)]


def _timed_out(timeout: float, stderr: bytes) -> SelfTest:
    stage = _stage(stderr.decode("utf-8", "replace").splitlines())
    return SelfTest(Outcome.FAILED, f"it did not end within {timeout:.0f} seconds{stage}")


def _how_wrong(quantization: QuantizationResult) -> str:
    if quantization.deviation < 0:
        return f"{quantization.name} gives what is no number"
    mean, most = f"{quantization.deviation:.2g}", f"{quantization.largest:.2g}"
    off = f"{quantization.name} is off by {mean} (allowed: {quantization.tolerance:g}), "
    off += f"at most by {most} (allowed: {quantization.limit:g})"
    return f"{off}, {quantization.best} best tokens are others" if quantization.best else off


def _stage(lines: Sequence[str]) -> str:
    stages = [line.removeprefix(STAGE) for line in lines if line.startswith(STAGE)]
    return f" in {stages[-1]}" if stages else ""


def _last_words(lines: Sequence[str]) -> str:
    """What the library or Python said last, in one line."""
    said: list[Any] = [line.strip() for line in lines if line.strip() and not line.startswith(STAGE)]
    return f": {said[-1]}" if said else ""
