"""Command lines recorded from Ollama's own command, as far as the verbs are there."""

import json
import re
from typing import Any

import pytest

from tests.cli.conftest import Pronk
from tests.serving import ROOT

RECORDING = json.loads((ROOT / "tests" / "data" / "golden" / "cli.json").read_text())
NOT_YET = re.compile("create|.*(cli1|--format)|--version")
"""Making models, what was made of them, constrained answers; and a version that is ours to tell."""
RUNS: list[dict[str, Any]] = [run for run in RECORDING["runs"] if not NOT_YET.match(" ".join(run["args"]))]


def columns(text: str) -> list[str]:
    """The names of the columns of a table; texts that are no table have none."""
    head = text.partition("\n")[0]
    return re.split(" {2,}", head.strip()) if head.startswith("NAME ") else []


@pytest.mark.parametrize("run", RUNS, ids=lambda run: " ".join(run["args"]))
def test_as_recorded(pronk: Pronk, run: dict[str, Any]) -> None:
    pronk.succeed("pull", "tinychat")
    result = pronk(*run["args"], stdin=run.get("stdin", ""))
    assert result.returncode == run["exit"]
    if run["exit"]:
        assert result.stderr == run["stderr"].replace('"ollama"', '"pronk"')
    if columns(run["stdout"]):
        assert columns(result.stdout) == columns(run["stdout"])
    elif "note" not in run:
        assert result.stdout == run["stdout"]


@pytest.mark.parametrize("verb", ["run", "show", "pull", "list", "ps", "cp", "rm", "stop", "serve"])
def test_flags(alone: Pronk, verb: str) -> None:
    """Every recorded flag is there, but for those of embedding models, which cannot be run yet."""
    flags = set(re.findall(r"--[a-z]+", alone.succeed(verb, "--help")))
    assert set(RECORDING["flags"][verb]) - {"--dimensions", "--truncate"} == flags
