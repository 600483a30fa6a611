"""Command lines recorded from Ollama's own command, carried out in order, as far as the verbs are there."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.cli.conftest import Pronk
from tests.golden.probes import WEIGHTS, digest_of
from tests.serving import LOOPBACK, ROOT, Served

RECORDING = json.loads((ROOT / "tests" / "data" / "golden" / "cli.json").read_text())
REWRITTEN = "sha256:ec51c35b3b7f427f50b8b2376e1d130f6cd07edcded12655d724013fe2a98c0c"
"""Ollama's own copy of tinychat's weights; here they are as they were."""
NOT_YET = re.compile(".*--format|--version")
"""Constrained answers; and a version that is ours to tell."""
CLEARER = {"create bad -f Missing": "Error: specified Modelfile wasn't found\n"}
"""Ollama makes a model of what is in the folder where the file that was named is not there."""
RUNS: list[dict[str, Any]] = [run for run in RECORDING["runs"] if not NOT_YET.match(" ".join(run["args"]))]


@pytest.fixture
def here(pronk: Pronk, tmp_path: Path) -> Pronk:
    """The command in a folder with the recording's files."""
    for name, text in RECORDING["files"].items():
        (tmp_path / name).write_text(text)
    return replace(pronk, folder=tmp_path)


def columns(text: str) -> list[str]:
    """The names of the columns of a table; texts that are no table have none."""
    head = text.partition("\n")[0]
    return re.split(" {2,}", head.strip()) if head.startswith("NAME ") else []


def ours(text: str, server: Served) -> str:
    """What was recorded, with this server's folder and weights."""
    kept = digest_of(WEIGHTS["{GGUF}"].read_bytes())
    for recorded, here in ((REWRITTEN, kept), (REWRITTEN.replace(":", "-"), kept.replace(":", "-"))):
        text = text.replace(recorded, here)
    return text.replace("{STORE}", str(server.store))


def lines(text: str) -> list[str]:
    """What is said, without the traces of a spinner. Which layers are new depends on what else is stored."""
    told = (line.rstrip().replace("using existing", "creating new") for line in text.splitlines())
    return [line for line in told if line]


def unordered(text: str) -> list[str]:
    """The lines of an overview. The order of capabilities is free, and ours have one more."""
    return sorted(line for line in lines(text) if line.strip() != "insert")


@pytest.mark.parametrize("run", RUNS, ids=lambda run: " ".join(run["args"]))
def test_as_recorded(here: Pronk, server: Served, run: dict[str, Any]) -> None:
    httpx.post(f"{server.url}/api/pull", json={"model": "tinychat"}, **LOOPBACK).raise_for_status()
    result = here(*run["args"], stdin=run.get("stdin", ""))
    assert result.returncode == run["exit"]
    if run["exit"] or run["args"][0] == "create":
        told = CLEARER.get(" ".join(run["args"]), run["stderr"])
        assert lines(result.stderr) == lines(ours(told, server).replace('"ollama"', '"pronk"'))
    wanted = ours(run["stdout"], server)
    if columns(wanted):
        assert columns(result.stdout) == columns(wanted)
    elif wanted.endswith("…"):
        assert result.stdout.startswith(wanted[:-1])
    elif run["args"] == ["show", "cli1"]:
        assert unordered(result.stdout) == unordered(wanted)
    elif "note" not in run:
        assert result.stdout == wanted


@pytest.mark.parametrize("verb", ["create", "run", "show", "pull", "push", "list", "ps", "cp", "rm", "stop", "serve"])
def test_flags(alone: Pronk, verb: str) -> None:
    """Every recorded flag is there, but for that of another runtime, and besides them only one of ours."""
    flags = set(re.findall(r"--[a-z][a-z-]+", alone.succeed(verb, "--help"))) - {"--image", "--json", "--all"}
    assert set(RECORDING["flags"][verb]) - {"--experimental"} == flags
