"""Workers that end in ways of their own."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from asyncio.subprocess import DEVNULL, PIPE
from pathlib import Path

import psutil
import pytest

from modelfile import operating_system
from modelfile.worker_client import JobFailed, run_job
from modelfile.worker_protocol import Verify
from tests.serving import ROOT


@pytest.mark.parametrize("linux", [operating_system.LINUX, False])
async def test_a_worker_that_dies_is_missed_also_when_a_fork_keeps_its_pipes_open(
    linux: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(operating_system, "LINUX", linux)
    forks = tmp_path / "forks"
    lines = [
        "import os, pathlib, time",
        f"if not os.fork(): pathlib.Path({str(forks)!r}).write_text(str(os.getpid())); time.sleep(600)",
        f"while not pathlib.Path({str(forks)!r}).exists(): time.sleep(0.01)",
        "os.abort()",
    ]
    (tmp_path / "sitecustomize.py").write_text("\n".join(lines))
    environ = {"PYTHONPATH": os.pathsep.join((str(ROOT), str(tmp_path))), "PATH": os.environ["PATH"]}
    with pytest.raises(JobFailed, match="unexpectedly stopped: Aborted"):
        await asyncio.wait_for(run_job(Verify(path="x"), environ, lambda _completed, _total: None), 60)
    _await_end(int(forks.read_text()))


async def test_a_worker_that_the_library_kills_says_what_helps(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import os, signal; os.kill(os.getpid(), signal.SIGILL)")
    environ = {"PYTHONPATH": os.pathsep.join((str(ROOT), str(tmp_path))), "PATH": os.environ["PATH"]}
    with pytest.raises(JobFailed, match=r"stopped: Illegal instruction on .+: .* `make engine` compiles it anew$"):
        await asyncio.wait_for(run_job(Verify(path="x"), environ, lambda _completed, _total: None), 60)


async def test_a_worker_that_is_stopped_fails_its_job(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import os, signal; os.kill(os.getpid(), signal.SIGSTOP)")
    environ = {"PYTHONPATH": os.pathsep.join((str(ROOT), str(tmp_path))), "PATH": os.environ["PATH"]}
    with pytest.raises(JobFailed, match=r"unexpectedly stopped: it gave no sign of life for 0\.5 s$"):
        await asyncio.wait_for(run_job(Verify(path="x"), environ, lambda _completed, _total: None, 0.5), 60)


async def test_a_worker_that_rests_for_ever_fails_its_job(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import time; time.sleep(600)")
    environ = {"PYTHONPATH": os.pathsep.join((str(ROOT), str(tmp_path))), "PATH": os.environ["PATH"]}
    with pytest.raises(JobFailed, match=r"unexpectedly stopped: it gave no sign of life for 3 s$"):
        await asyncio.wait_for(run_job(Verify(path="x"), environ, lambda _completed, _total: None, 0.1), 60)


async def test_a_worker_that_computes_without_a_word_goes_on(tmp_path: Path) -> None:
    """For longer than one that rests is given."""
    code = "import os, time\nwhile time.process_time() < 2: pass\nos.abort()"
    (tmp_path / "sitecustomize.py").write_text(code)
    environ = {"PYTHONPATH": os.pathsep.join((str(ROOT), str(tmp_path))), "PATH": os.environ["PATH"]}
    with pytest.raises(JobFailed, match="unexpectedly stopped: Aborted"):
        await asyncio.wait_for(run_job(Verify(path="x"), environ, lambda _completed, _total: None, 0.04), 60)


async def test_a_worker_whose_parent_is_gone_ends_in_silence() -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "modelfile.worker"), stdin=DEVNULL, stdout=PIPE, stderr=PIPE
    )
    assert (await process.communicate(), process.returncode) == ((b"", b""), 0)


def _await_end(pid: int) -> None:
    """Wait until an orphan has ended; who reaps it here is not ours to say."""
    deadline = time.monotonic() + 60
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline
        time.sleep(0.01)
