"""Runs the self-test of the compiled library in a child process: right numbers, wrong numbers, or a crash?

The child is `engine.runner.selftest`. Standard library only: set-up runs this before anything else is installed.
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
STAGE = "stage: "  # begins a line of engine/runner/selftest.py that says what it does next
TIMEOUT = 300.0  # seconds; the test takes five on two slow cores


class Outcome(StrEnum):
    """The result of a self-test."""

    OK = "ok"
    DIFFERS = "differs"
    DIED = "died"
    FAILED = "failed"  # the test could not run, or not in time


@dataclass(frozen=True, slots=True)
class QuantizationResult:
    """The errors for one quantisation, in standard deviations of a row of logits; -1 if a logit is not finite.

    `deviation`, the root mean square error, may be `tolerance`; `largest`, the largest error, may be `limit`. `best`
    counts the rows whose best token is wrong.
    """

    name: str
    ok: bool
    deviation: float
    tolerance: float
    largest: float
    limit: float
    best: int


@dataclass(frozen=True, slots=True)
class SelfTest:
    """The result for all quantisations. `detail`: the reason unless the outcome is OK.

    `library` is the version of llama-cpp-python, `features` what llama.cpp is compiled for; both are "" if the child
    ended too early.
    """

    outcome: Outcome
    detail: str = ""
    library: str = ""
    features: str = ""
    quantizations: tuple[QuantizationResult, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether the library computes the right numbers."""
        return self.outcome is Outcome.OK

    @property
    def sentence(self) -> str:
        """The result in one line."""
        match self.outcome:
            case Outcome.OK:
                names = ", ".join(result.name for result in self.quantizations)
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
    """Test the library that `python` has installed, or that in `lib_dir`. Blocks for some seconds.

    `environ` is the child's environment, None for ours; `timeout` in seconds.
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
    """As `run`, without blocking the event loop. The child is killed if this is cancelled."""
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
    """The result from a child's exit code (negative: the signal that killed it) and output."""
    lines = stderr.decode("utf-8", "replace").splitlines()
    if code < 0:
        return SelfTest(Outcome.DIED, f"{name_of(-code)}{_stage(lines)}{_last_words(lines)}")
    try:
        report = json.loads(stdout)
        quantizations = tuple(QuantizationResult(**result) for result in report["quantizations"])
        test = SelfTest(Outcome.OK, report["error"], report["library"], report["features"], quantizations)
    except (ValueError, KeyError, TypeError):
        return SelfTest(Outcome.FAILED, f"exit status {code}{_stage(lines)}{_last_words(lines)}")
    if report["ok"] is True and code == 0:
        return test
    wrong = "; ".join(_how_wrong(result) for result in quantizations if not result.ok)
    detail = "; ".join(text for text in (test.detail, wrong) if text)
    return SelfTest(Outcome.DIFFERS, detail, test.library, test.features, quantizations)


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
    """The last line that the library or Python wrote."""
    messages: list[Any] = [line.strip() for line in lines if line.strip() and not line.startswith(STAGE)]
    return f": {messages[-1]}" if messages else ""
