"""`make run`, less the set-up: a server, an answer, and a clean end."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.terminal import Terminal
from tests.serving import PATIENCE, ROOT

COMMAND = [sys.executable, "-m", "scripts.first_run"]
ANSWER = "I can chat, count, repeat words, answer simple questions, write JSON and call tools."
LAST_LINE = "Ctrl-C stops the server."


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    return os.environ | {"OLLAMA_HOST": f"127.0.0.1:{port}", "OLLAMA_MODELS": str(tmp_path / "models")}


def test_a_first_answer_and_a_polite_end(environ: dict[str, str]) -> None:
    with subprocess.Popen(
        COMMAND,
        cwd=ROOT,
        env=environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        shown: list[str] = []
        while not shown or LAST_LINE not in shown[-1]:
            line = process.stdout.readline()
            assert line, process.communicate()
            shown.append(line)
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
    assert f"{ANSWER}\n" in shown
    assert "stopping on SIGTERM" in log


def test_ctrl_c_ends_it_without_an_error_of_whoever_called(environ: dict[str, str]) -> None:
    """As under make: a parent at the same terminal, which would die of the signal."""
    caller = ["sh", "-c", f"{' '.join(COMMAND)}; echo ended with $?"]
    with Terminal(caller, environ) as terminal:
        terminal.expect(LAST_LINE)
        terminal.type("\x03")
        terminal.expect("ended with 0")
        assert terminal.leave() == 0


def test_a_taken_port(environ: dict[str, str]) -> None:
    with socket.create_server(("127.0.0.1", int(environ["OLLAMA_HOST"].rpartition(":")[2]))):
        result = subprocess.run(
            COMMAND, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=PATIENCE, check=False
        )
    assert (result.returncode, result.stdout) == (1, "")
    assert "address already in use\n" in result.stderr
    assert "take another port: OLLAMA_HOST=127.0.0.1:" in result.stderr
