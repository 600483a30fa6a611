"""A server that is told to stop before it is there ends well too."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.server.test_main import PATIENCE, environment, free_port


def catches(process: subprocess.Popen[str], number: signal.Signals) -> bool:
    """Whether a process has a handler for a signal."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    [mask] = [line.split()[1] for line in status.splitlines() if line.startswith("SigCgt:")]
    return bool(int(mask, 16) >> (number - 1) & 1)


def members(session: int) -> list[int]:
    """The processes of a session."""
    found = []
    for pid in psutil.pids():
        try:
            if os.getsid(pid) == session:
                found.append(pid)
        except ProcessLookupError:
            continue
    return found


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize("command", [["cli", "serve"], ["server.main"]], ids=["command", "module"])
@pytest.mark.parametrize(
    ("number", "moment"),
    [(signal.SIGTERM, 0.0), (signal.SIGTERM, 0.6), (signal.SIGTERM, 1.0), (signal.SIGINT, 0.3), (signal.SIGINT, 0.8)],
)
def test_a_signal_at_any_moment(tmp_path: Path, command: list[str], number: signal.Signals, moment: float) -> None:
    child = subprocess.Popen(
        [sys.executable, "-m", *command],
        env=environment(tmp_path, free_port()),
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    with child:
        while not catches(child, signal.SIGTERM):
            assert child.poll() is None
            time.sleep(0.005)
        time.sleep(moment)
        child.send_signal(number)
        _, log = child.communicate(timeout=PATIENCE)
    assert child.returncode == 0, log
    assert f"stopping on {number.name}" in log
    assert "Traceback" not in log
    deadline = time.monotonic() + PATIENCE
    while members(child.pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert members(child.pid) == []
