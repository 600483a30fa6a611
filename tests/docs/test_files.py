"""What the documents point at is there, and README.md begins with what it promises."""

import re
from pathlib import Path

import pytest

from tests.serving import ROOT

DOCUMENTS = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]
LINK = re.compile(r"\]\((?!https?:)([^)#]+)")
ANCHOR = re.compile(r"\]\((?!https?:)([^)#]*)#([^)]+)\)")
PATH = re.compile(r"`((?:cli|server|engine|modelfile|registry|bench|scripts|tests|docs)/[\w./-]*)`")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_and_paths(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    missing = [name for name in LINK.findall(text) if not (document.parent / name).exists()]
    missing += [name for name in PATH.findall(text) if not (ROOT / name).exists()]
    assert missing == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_anchors(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    links = [(document.parent / (name or document.name), anchor) for name, anchor in ANCHOR.findall(text)]
    assert [(path.name, anchor) for path, anchor in links if anchor not in anchors(path)] == []


def anchors(document: Path) -> set[str]:
    """What GitHub calls the headings of a document."""
    headings = re.findall(r"^#+ (.*)$", document.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).lower().replace(" ", "-") for heading in headings}


def test_readme_begins_with_the_two_commands() -> None:
    commands = re.search(r"```sh\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    assert commands is not None
    assert [line.partition("#")[0].strip() for line in commands[1].splitlines()] == ["make run", "make test"]


def test_ci_runs_the_second_command() -> None:
    lines = (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    assert "set -euo pipefail" in lines  # what fails ends the run
    commands = [line.partition("#")[0].strip() for line in lines]
    assert next(command for command in commands if "make" in command) == "make test"
