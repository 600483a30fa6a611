"""`pronk keys`: in the file, whether a server runs or not."""

import json
from pathlib import Path

from tests.cli.conftest import Pronk


def test_the_life_of_a_key(pronk: Pronk, tmp_path: Path) -> None:
    environ = {"PRONK_API_KEYS_FILE": str(tmp_path / "keys.json")}

    def succeed(*args: str) -> str:
        result = pronk("keys", *args, **environ)
        assert result.returncode == 0, result.stderr
        return result.stdout

    assert succeed("list").split() == ["NAME", "SCOPES", "A", "MINUTE", "AT", "ONCE", "CREATED"]
    text = succeed("add", "laptop").strip()
    assert text.startswith("pronk_")
    succeed("add", "ops", "--scope", "manage", "--scope", "read", "--requests-per-minute", "60", "--concurrent", "2")
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
