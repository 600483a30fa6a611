"""The official JavaScript client, on Node.js, as its own documentation uses it."""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.outside import missing, needs
from tests.serving import ROOT, Served

PACKAGES = ROOT / ".cache" / "javascript"  # between runs the client stays installed
SCRIPT = Path(__file__).with_name("chat.mjs")
SLOWEST = 300  # seconds, for npm too


@pytest.fixture(scope="module")
def answers(server: Served) -> Any:
    """What the script printed. Ends the test where Node.js, npm or the client cannot be had."""
    npm, node = needs("npm", "node")
    _install_client(npm)
    shutil.copy(SCRIPT, PACKAGES)
    env = os.environ | {"OLLAMA_URL": server.url, "NO_PROXY": "127.0.0.1"}
    done = subprocess.run([node, SCRIPT.name], cwd=PACKAGES, env=env, capture_output=True, text=True, timeout=SLOWEST)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def _install_client(npm: str) -> None:
    if (PACKAGES / "node_modules" / "ollama" / "package.json").exists():
        return
    PACKAGES.mkdir(parents=True, exist_ok=True)
    (PACKAGES / "package.json").write_text('{"private": true}')
    command = [npm, "install", "--no-audit", "--no-fund", "--fetch-retries=1", "--fetch-timeout=20000", "ollama"]
    try:
        subprocess.run(command, cwd=PACKAGES, check=True, capture_output=True, text=True, timeout=SLOWEST)
    except subprocess.TimeoutExpired:
        missing(f"npm did not install the client in {SLOWEST} s")
    except subprocess.CalledProcessError as error:
        missing(f"npm cannot install the client: {error.stderr.strip().splitlines()[:1]}")


def test_chat(answers: Any) -> None:
    assert answers["chat"]["content"] == "The capital of Spain is Madrid."
    assert answers["chat"]["thinking"] == "The user asks for the capital of Spain. It is Madrid.\n"
    assert answers["chatStream"]["text"] == "The capital of Spain is Madrid."
    assert answers["chatStream"]["parts"] > 2  # what piles up comes in one line, but thought, answer and end never do


def test_generate(answers: Any) -> None:
    assert answers["generate"] == answers["generateStream"]["text"] == "1, 2, 3, 4, 5"
    assert answers["aborted"]


def test_models(answers: Any) -> None:
    assert answers["pull"] == {"status": "success"}
    assert answers["list"] == answers["ps"] == ["tinychat:latest"]
    assert answers["show"] == "qwen3"


def test_an_error(answers: Any) -> None:
    assert answers["missing"] == {"status": 404, "message": "model 'nosuch' not found"}
