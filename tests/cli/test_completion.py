"""Completion in a shell, and other verbs about the command itself."""

import json
import os
import shlex
import subprocess
from pathlib import Path

import pytest

from tests.cli.conftest import COMMAND, Pronk
from tests.cli.terminal import Terminal
from tests.outside import needs
from tests.serving import PATIENCE, ROOT


@pytest.fixture
def names(pronk: Pronk) -> Pronk:
    pronk.succeed("pull", "tinychat")
    pronk.succeed("cp", "tinychat", "other:v1")
    return pronk


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["pu"], ["pull", "push"]),
        (["run", "t"], ["tinychat"]),
        (["run", "tinychat", "t"], []),
        (["run", "--format", "json", "o"], ["other:v1"]),
        (["run", "--think", "t"], ["tinychat"]),
        (["rm", "tinychat", "o"], ["other:v1"]),
        (["cp", "tinychat", "other", ""], []),
        (["show", "tinychat:"], ["tinychat:latest"]),
        (["run", "--nowo"], ["--nowordwrap"]),
        (["run", "--think=h"], ["--think=high"]),
        (["create", "-f", "M"], []),
        (["help", "pl"], ["plan"]),
        (["completion", ""], ["bash", "zsh", "fish"]),
        (["nonsense", ""], []),
    ],
)
def test_candidates(names: Pronk, words: list[str], found: list[str]) -> None:
    assert names.succeed("__complete", "zsh", "--", *words).splitlines() == found


def test_nothing_is_said_without_a_server(alone: Pronk) -> None:
    assert alone.succeed("__complete", "fish", "--", "run", "") == ""


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("pronk sto", ["stop"]),
        ("pronk run oth", ["other:v1"]),
        ("pronk run other:", ["v1"]),  # bash begins a new word after a colon
        ("pronk run --think=m", ["medium", "max"]),
        ("pronk run 'oth", []),
    ],
)
def test_bash(names: Pronk, line: str, found: list[str]) -> None:
    script = f"""
        pronk() {{ {" ".join(COMMAND)} "$@"; }}
        source <({" ".join(COMMAND)} completion bash)
        COMP_LINE=$1 COMP_POINT=${{#1}}
        _pronk
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    ended = subprocess.run(
        ["bash", "-c", script, "bash", line],
        env=names.environ,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
    )
    assert [line for line in ended.stdout.splitlines() if line] == found


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_script_can_be_read(alone: Pronk, shell: str) -> None:
    [program] = needs(shell)
    subprocess.run([program, "-n"], input=alone.succeed("completion", shell), text=True, check=True)


@pytest.fixture
def command(tmp_path: Path) -> str:
    """A value of PATH that leads to the command, under its own name."""
    program = tmp_path / "bin" / "pronk"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {shlex.join(COMMAND)} "$@"\n')
    program.chmod(0o755)
    return f"{program.parent}:{os.environ['PATH']}"


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("pronk sto", ["stop"]),
        ("pronk run oth", ["other:v1"]),
        ("pronk run --think=m", ["--think=medium", "--think=max"]),
    ],
)
def test_fish(names: Pronk, command: str, line: str, found: list[str]) -> None:
    [fish] = needs("fish")
    script = f"pronk completion fish | source; complete -C {shlex.quote(line)}"
    ended = subprocess.run(
        [fish, "--no-config", "-c", script],
        env=names.environ | {"PATH": command},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
    )
    assert sorted(ended.stdout.splitlines()) == sorted(found)


def test_zsh(names: Pronk, command: str) -> None:
    """Tab at a prompt, after the line that docs/cli.md has for ~/.zshrc."""
    [zsh] = needs("zsh")
    (names.home / ".zshrc").write_text(
        "autoload -Uz compinit; compinit -u; PS1='ready> '\nsource <(pronk completion zsh)\n"
    )
    environ = names.environ | {"PATH": command, "ZDOTDIR": str(names.home)}
    with Terminal([zsh, "-i"], environ) as terminal:
        terminal.expect("ready> ")
        terminal.type("pronk sto\t")
        terminal.expect("pronk stop")
        terminal.type("\x15pronk run oth\t")  # Ctrl-U empties the line
        terminal.expect("other:v1")


def test_json(names: Pronk) -> None:
    assert [model["name"] for model in json.loads(names.succeed("list", "--json", "tiny"))["models"]] == [
        "tinychat:latest"
    ]
    names.succeed("run", "tinychat")
    assert json.loads(names.succeed("ps", "TINY", "--json"))["models"][0]["name"] == "tinychat:latest"
    assert json.loads(names.succeed("ps", "other", "--json=true")) == {"models": []}
    assert len(names.succeed("ps", "--json=false", "tiny").splitlines()) == 2
    assert json.loads(names.succeed("show", "tinychat", "--json"))["details"]["family"] == "qwen3"
    assert names.fail("show", "tinychat", "--json", "--system").startswith("Error: --json shows everything")


def test_pull_all(names: Pronk) -> None:
    result = names("pull", "--all")
    assert result.returncode == 1
    assert "tinychat:latest\npulling manifest\n" in result.stderr
    assert result.stderr.endswith("Error: 1 of 2 models could not be pulled: other:v1\n")
    names.succeed("rm", "other:v1")
    names.succeed("pull", "--all")
    assert names.fail("pull", "--all", "tinychat") == "Error: accepts 0 arg(s), received 1\n"


def test_help(alone: Pronk) -> None:
    assert alone.succeed("help") == alone.succeed("--help")
    for verb in ("run", "ps", "ls"):
        assert alone.succeed("help", verb) == alone.succeed(verb, "--help")
    assert alone.succeed("help", "keys", "add") == alone.succeed("keys", "add", "--help")
    assert alone.fail("help", "keys", "bogus") == 'Error: unknown command "bogus" for "pronk keys"\n'
    assert alone.fail("help", "run", "tinychat") == 'Error: "pronk run" has no verbs of its own\n'
    assert alone.fail("help", "bogus") == 'Error: unknown command "bogus" for "pronk"\n'


def test_what_is_left_out(alone: Pronk) -> None:
    for verb in ("signin", "signout", "launch"):
        assert alone.fail(verb).startswith(f'Error: "{verb}" is left out on purpose: ')


def test_versions(pronk: Pronk, alone: Pronk) -> None:
    first, second = pronk.succeed("-v").splitlines()
    assert first == "pronk version is 0.1.0"
    assert second == f"the server at {pronk.environ['OLLAMA_HOST']} speaks the API of Ollama 0.33.0"
    assert alone("-v").stderr == "Warning: no server answers at http://127.0.0.1:1\n"


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["list", "--json=maybe"], 'invalid argument "maybe" for "--json" flag: must be true or false'),
        (["run", "m", "--dimensions", "x"], "Invalid value for '--dimensions': 'x' is not a valid integer"),
        (["run", "m", "--format"], "Option '--format' requires an argument"),
        (["completion", "tcsh"], 'no completion for "tcsh": there is one for bash, zsh, fish'),
    ],
)
def test_a_wrong_call(alone: Pronk, args: list[str], message: str) -> None:
    assert alone.fail(*args) == f"Error: {message}\n"


@pytest.mark.parametrize("verb", ["list", "show"])
def test_flags_are_taken_back(alone: Pronk, verb: str) -> None:
    assert "could not connect" in alone.fail(verb, "--json", "--json=false", *(["m"] if verb == "show" else []))
