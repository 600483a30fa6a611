"""API keys in their file and in the environment."""

import json
import os
import stat
from pathlib import Path

import pytest

from server.http.keys import APIKey, KeyFile, KeyRing, KeysError, from_variable

TEXT = "a-key-of-somebody-else"


@pytest.fixture
def file(tmp_path: Path) -> KeyFile:
    return KeyFile(tmp_path / "folder" / "api_keys.json")


def test_a_key_is_shown_once_and_kept_as_a_hash(file: KeyFile) -> None:
    text = file.add("laptop", ["infer"], requests_per_minute=3)
    assert text not in file.path.read_text()
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o600
    [key] = file.read() or ()
    assert (key.name, key.scopes, key.requests_per_minute, key.concurrent) == ("laptop", ("infer",), 3, 0)
    ring = KeyRing(file.path)
    assert ring.closed
    assert ring.find(text) == key
    assert ring.find(text + "x") is None
    assert ring.find("") is None


def test_what_others_write_counts_at_once(file: KeyFile, caplog: pytest.LogCaptureFixture) -> None:
    ring = KeyRing(file.path)
    assert not ring.closed
    text = file.add("a", ["read"])
    assert ring.closed
    assert ring.find(text) is not None
    file.revoke("a")
    assert ring.closed  # the last key has gone, and nobody is let in instead
    assert ring.find(text) is None
    assert "need no API key" not in caplog.text
    file.path.unlink()
    assert not ring.closed
    assert f"requests need no API key any more: {file.path} is gone" in caplog.text


@pytest.mark.parametrize(
    "data", ["", "[]", '{"keys":[{"name":"a"}]}', '{"keys":[{"name":"a","sha256":"x","scopes":["all"]}]}']
)
def test_a_file_that_cannot_be_read(file: KeyFile, data: str, caplog: pytest.LogCaptureFixture) -> None:
    text = file.add("a", ["infer"])
    ring = KeyRing(file.path)
    file.path.write_text(data)
    assert ring.closed
    assert ring.find(text) is not None
    assert "API keys stay as they were" in caplog.text
    with pytest.raises(KeysError, match="cannot be read"):
        KeyRing(file.path)


def test_a_broken_file_where_none_was_lets_nobody_in(file: KeyFile) -> None:
    ring = KeyRing(file.path)
    file.path.parent.mkdir()
    file.path.write_text("{")
    assert ring.closed


def test_names_are_taken_once(file: KeyFile) -> None:
    file.add("a", ["infer"])
    with pytest.raises(KeysError, match="there is a key 'a' already"):
        file.add("a", ["read"])
    with pytest.raises(KeysError, match="there is no key 'b'"):
        file.revoke("b")
    with pytest.raises(KeysError, match="no name of a key"):
        file.add("a b", ["read"])
    with pytest.raises(KeysError, match="unknown scope 'all': infer, read, manage"):
        file.add("c", ["all"])  # type: ignore[list-item]
    for names, message in ((("a", "a"), "two are called 'a'"), (("a", "b"), "'a' and 'b' have the same text")):
        twice = {"keys": [{"name": name, "sha256": "0" * 64} for name in names]}
        file.path.write_text(json.dumps(twice))
        with pytest.raises(KeysError, match=message):
            file.read()


def test_keys_that_are_made_side_by_side(file: KeyFile) -> None:
    children = []
    for number in range(8):
        if not (pid := os.fork()):
            file.add(f"k{number}", ["infer"])
            os._exit(0)
        children.append(pid)
    assert [os.waitpid(pid, 0)[1] for pid in children] == [0] * 8
    assert sorted(key.name for key in file.read() or ()) == [f"k{number}" for number in range(8)]


def test_the_variable() -> None:
    keys = from_variable(f"{TEXT}, ops:manage+read:{TEXT}:with:colons ,")
    assert [(key.name, key.scopes) for key in keys] == [
        ("environment-1", ("infer", "read")),
        ("ops", ("read", "manage")),
    ]
    assert keys[0] == APIKey(name="environment-1", sha256=keys[0].sha256)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("short", "key 1 is shorter than 16 characters"),
        (f"a:all:{TEXT}", "unknown scope 'all'"),
        (f"a b:infer:{TEXT}", "no name of a key"),
        (f"a::{TEXT}", "unknown scope ''"),
        (f"a:infer:{TEXT},a:read:{TEXT}", "two are called 'a'"),
        (f"a:infer:{TEXT},b:read:{TEXT}", "'a' and 'b' have the same text"),
        (f"{TEXT}é", "key 1 must be printable ASCII"),
        (f"{TEXT}\udce9", "key 1 must be printable ASCII"),
        (f"{TEXT} x", "key 1 must be printable ASCII"),
        (",", "PRONK_API_KEYS has no key in it"),
    ],
)
def test_a_variable_that_cannot_be_read(text: str, message: str) -> None:
    with pytest.raises(KeysError, match=message) as refused:
        from_variable(text)
    assert TEXT not in str(refused.value)


def test_keys_may_be_required(file: KeyFile) -> None:
    with pytest.raises(KeysError, match="pronk keys add NAME"):
        KeyRing(file.path, required=True)
    assert KeyRing(file.path, TEXT, required=True).closed
    file.add("a", ["infer"])
    ring = KeyRing(file.path, required=True)
    file.path.unlink()
    assert ring.closed


@pytest.mark.parametrize(
    "field",
    [
        {"sha256": "zé"},
        {"sha256": "0"},
        {"name": "a\x1b[31m\nb"},
        {"concurrent": -1},
        {"requests_per_minute": -1},
        {"created": 10**15},
    ],
)
def test_a_key_that_no_command_has_made(file: KeyFile, field: dict[str, object]) -> None:
    file.path.parent.mkdir()
    file.path.write_text(json.dumps({"keys": [{"name": "a", "sha256": "0" * 64} | field]}))
    with pytest.raises(KeysError, match="cannot be read") as refused:
        file.read()
    assert str(refused.value).isprintable()


def test_a_pipe_in_the_place_of_the_file(file: KeyFile) -> None:
    """It must not keep the server waiting."""
    text = file.add("a", ["infer"])
    ring = KeyRing(file.path)
    file.path.unlink()
    os.mkfifo(file.path)
    assert ring.closed
    assert ring.find(text) is not None
    with pytest.raises(KeysError, match="not a regular file"):
        KeyRing(file.path)
    with pytest.raises(KeysError, match="not a regular file"):
        KeyRing(Path("/dev/zero"))
