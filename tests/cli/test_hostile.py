"""Servers that send what they should not, and outputs that take nothing."""

from __future__ import annotations

import http.server
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import COMMAND, Pronk, handled_by
from tests.cli.terminal import Terminal
from tests.serving import PATIENCE, ROOT

EVIL = "a\x1b]0;title\x07\x1b[31mb\x9b31m\u202e"
ANSWERS: dict[str, object] = {
    "/api/tags": {"models": [{"name": EVIL, "digest": EVIL, "size": 1, "modified_at": "2026-01-01T00:00:00Z"}]},
    "/api/ps": {"models": [{"name": EVIL, "digest": EVIL, "size": 1, "expires_at": "2026-01-01T00:00:00Z"}]},
    "/api/show": {
        "model_info": {"general.architecture": EVIL},
        "details": {"family": EVIL},
        "capabilities": ["completion", EVIL],
        "system": EVIL,
        "messages": [{"role": "user", "content": EVIL}, {"role": "assistant", "content": EVIL}],
    },
    "/api/generate": {"response": EVIL, "thinking": EVIL, "done": True},
    "/api/pull": {"status": EVIL},
    "/api/push": {"error": f"{EVIL}\nsecond line"},
    "/api/create": {"status": "writing manifest"},
}


class _Evil(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = json.dumps(ANSWERS[self.path]).encode() + b"\n"
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def evil() -> Iterator[str]:
    with handled_by(_Evil) as url:
        yield url


@pytest.mark.parametrize("call", ["list", "ps", "list --json", "show x", "pull x", "push x"])
def test_nothing_commands_the_terminal(alone: Pronk, evil: str, call: str) -> None:
    result = alone(*call.split(), OLLAMA_HOST=evil)
    shown = result.stdout + result.stderr
    assert "title" in shown
    assert not set(shown) & {"\x1b", "\x07", "\x9b"}


def test_an_answer_at_a_terminal_and_in_a_pipe(alone: Pronk, evil: str) -> None:
    environ = alone.environ | {"OLLAMA_HOST": evil}
    with Terminal([*COMMAND, "run", "x", "hi"], environ) as terminal:
        assert "a\\x1b]0;title\\x07\\x1b[31mb\\x9b31m" in terminal.expect("\\x9b31m")
        terminal.expect("\\x9b31m")
        assert "\x07" not in terminal.raw
    with Terminal([*COMMAND, "show", "x", "--system"], environ) as terminal:
        terminal.expect("\\x9b31m")
        assert "\x07" not in terminal.raw
    assert EVIL in alone("run", "x", "hi", OLLAMA_HOST=evil).stdout
    assert alone("show", "x", "--system", OLLAMA_HOST=evil).stdout == EVIL


@pytest.mark.parametrize("setting", [{"TERM": "dumb"}, {"NO_COLOR": "1"}])
def test_a_terminal_without_colours(alone: Pronk, evil: str, setting: dict[str, str]) -> None:
    with Terminal([*COMMAND, "run", "x", "hi"], alone.environ | setting | {"OLLAMA_HOST": evil}) as terminal:
        terminal.expect("...done thinking.")
        assert "\x1b[90m" not in terminal.raw


def test_completion_offers_no_name_of_two_lines(alone: Pronk, evil: str) -> None:
    assert alone("__complete", "zsh", "--", "show", "", OLLAMA_HOST=evil).stdout == ""


@pytest.mark.parametrize("call", ["pull x", "create x"])
def test_an_answer_without_its_end(alone: Pronk, evil: str, call: str, tmp_path: Path) -> None:
    """Whoever stands before the server may end an answer as if it were whole."""
    (tmp_path / "Modelfile").write_text("FROM y")
    files = ("--file", str(tmp_path / "Modelfile")) if call == "create x" else ()
    message = alone.fail(*call.split(), *files, OLLAMA_HOST=evil)
    assert message.splitlines()[-1] == f"Error: lost the connection to {evil}: the answer ended in the middle"


def test_an_error_is_one_line(alone: Pronk, evil: str) -> None:
    assert alone.fail("push", "x", OLLAMA_HOST=evil).count("\n") == 1
    long = alone.fail("x" * 100_000)
    assert len(long) < 5000
    assert long.endswith('x" for "pronk"\n')
    assert alone.fail("bog\nus\x1b[31m") == 'Error: unknown command "bog us\\x1b[31m" for "pronk"\n'


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full is Linux")
@pytest.mark.parametrize("call", ["help", "completion bash", "keys list", "run x hi", "list"])
def test_an_output_that_is_full(alone: Pronk, evil: str, call: str) -> None:
    with open("/dev/full", "w") as full:
        result = subprocess.run(
            [*COMMAND, *call.split()],
            env=alone.environ | {"OLLAMA_HOST": evil},
            stdin=subprocess.DEVNULL,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
    assert (result.returncode, result.stderr) == (1, "Error: No space left on device\n")


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_streams_that_are_closed(alone: Pronk, closed: str) -> None:
    """The error never comes on standard output."""
    command = ["sh", "-c", f'"$@" {closed}', "sh", *COMMAND, "list"]
    result = subprocess.run(command, env=alone.environ, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith("Error: could not connect") is ("2>" not in closed)


def test_ctrl_c_while_it_starts(alone: Pronk, tmp_path: Path) -> None:
    (tmp_path / "click.py").write_text("import os, signal, time\nos.kill(os.getpid(), signal.SIGINT)\ntime.sleep(60)\n")
    # Whoever runs the tests in the background ignores Ctrl-C, and that is inherited.
    listening = (
        "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); os.execvp(sys.argv[1], sys.argv[1:])"
    )
    command = [sys.executable, "-c", listening, sys.executable, "-m", "cli", "list"]
    environ = alone.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    result = subprocess.run(
        command, env=environ, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert (result.returncode, result.stderr) == (130, "")


def test_a_pasted_colour_is_no_mouse(terminal: Terminal) -> None:
    terminal.type("Say \x1b[31mhello\n")
    terminal.expect(">>> ")
    assert "Exception" not in terminal.text
