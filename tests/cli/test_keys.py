"""`pronk keys`: in the file, whether a server runs or not."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.cli.conftest import COMMAND, Pronk
from tests.serving import serving


def test_the_life_of_a_key(pronk: Pronk, tmp_path: Path) -> None:
    environ = {"PRONK_API_KEYS_FILE": str(tmp_path / "keys.json")}

    said: list[str] = []

    def succeed(*args: str) -> str:
        result = pronk("keys", *args, **environ)
        assert result.returncode == 0, result.stderr
        said.append(result.stderr)
        return result.stdout

    assert succeed("list").split() == ["NAME", "SCOPES", "A", "MINUTE", "AT", "ONCE", "CREATED"]
    text = succeed("add", "laptop").strip()
    assert text.startswith("pronk_")
    succeed("add", "ops", "--scope", "manage", "--scope", "read", "--requests-per-minute", "60", "--concurrent", "2")
    first, second = said[-2:]
    assert first.startswith("From now on every request needs a key")
    assert second == ""
    lines = [line.split() for line in succeed("list").splitlines()[1:]]
    assert [line[:4] for line in lines] == [
        ["laptop", "infer,read", "any", "any"],
        ["ops", "read,manage", "60", "2"],
    ]
    assert [key["name"] for key in json.loads(succeed("list", "--json"))["keys"]] == ["laptop", "ops"]
    assert text not in (tmp_path / "keys.json").read_text()

    assert pronk.fail("keys", "add", "ops", **environ).startswith("Error: there is a key 'ops' already")
    assert (
        pronk.fail("keys", "add", "x", "--scope", "all", **environ)
        == "Error: unknown scope 'all': infer, read, manage\n"
    )
    assert pronk.fail("keys", "revoke", "nobody", **environ).startswith("Error: there is no key 'nobody'")
    assert succeed("revoke", "laptop") == "revoked 'laptop'\n"
    assert "It was the last key: every request is refused now." in succeed("revoke", "ops")


def test_the_command_sends_a_key(pronk: Pronk) -> None:
    assert pronk("list", OLLAMA_API_KEY="pronk_something").returncode == 0


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full is Linux")
def test_a_key_that_cannot_be_printed_is_not_made(alone: Pronk) -> None:
    with open("/dev/full", "w") as full:
        result = subprocess.run(
            [*COMMAND, "keys", "add", "x"],
            env=alone.environ,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert result.returncode == 1
    assert json.loads(alone.succeed("keys", "list", "--json"))["keys"] == []


def test_the_file_may_be_in_the_home_folder(alone: Pronk) -> None:
    assert alone("keys", "add", "x", PRONK_API_KEYS_FILE="~/keys.json").returncode == 0
    assert (alone.home / "keys.json").is_file()


@pytest.mark.skipif(os.geteuid() != 0, reason="another user's name can be taken by root only")
def test_a_user_without_a_home(alone: Pronk) -> None:
    environ = {name: value for name, value in alone.environ.items() if name not in ("HOME", "OLLAMA_MODELS")}
    user = {"user": 54321, "group": 54321, "extra_groups": []}
    result = subprocess.run(
        [*COMMAND, "keys", "list"], env=environ, capture_output=True, text=True, check=False, **user
    )
    assert (result.returncode, result.stderr) == (1, "Error: no home directory is known: set HOME or OLLAMA_MODELS\n")


def test_limits_and_verbs_that_cannot_be(alone: Pronk) -> None:
    assert "is not in the range" in alone.fail("keys", "add", "x", "--concurrent", "9" * 30)
    assert alone.fail("keys", "bogus") == 'Error: unknown command "bogus" for "pronk keys"\n'
    assert alone.succeed("keys").startswith("Usage: pronk keys ")


def test_a_server_that_wants_a_key(tmp_path: Path) -> None:
    with serving(tmp_path / "models", PRONK_API_KEYS="abcdefghijklmnop") as served:
        for key, problem in ("", "an API key is needed"), ("wrong", "the API key is not known here"):
            environ = os.environ | {"OLLAMA_HOST": served.url, "OLLAMA_API_KEY": key}
            result = subprocess.run([*COMMAND, "list"], env=environ, capture_output=True, text=True, check=False)
            assert result.returncode == 1
            assert result.stderr.startswith(f"Error: {problem}")
            assert result.stderr.endswith("; set OLLAMA_API_KEY to one of the server's keys\n")
