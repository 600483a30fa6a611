"""The line editor of a session: paste, an editor for long messages, completion, Ctrl-C, what commands show and keep."""

from pathlib import Path

import pytest

from tests.cli.conftest import COMMAND, Pronk
from tests.cli.terminal import Terminal
from tests.cli.test_repl import ENDLESS

PASTE, PASTED = "\x1b[200~", "\x1b[201~"
HELLO = "Hello! How can I help you today?"


def test_a_pasted_text_is_one_message(terminal: Terminal) -> None:
    terminal.type(f"{PASTE}My name\nis\nAlice.{PASTED}")
    terminal.expect("Alice.")
    terminal.type("\n")
    terminal.expect("\n>>> ")
    assert "Alice" in terminal.say("What is my name?")
    terminal.type("/bye\n")
    assert terminal.leave() == 0
    assert "unknown" not in terminal.text
    assert terminal.text.count("\n\n") == 2, "two answers"


def test_what_is_pasted_during_an_answer_waits_unseen(terminal: Terminal) -> None:
    terminal.say(ENDLESS)
    terminal.say("/set parameter num_predict 400")
    terminal.type("Count to 100\n")
    terminal.expect("1, 2, 3")
    terminal.type(f"{PASTE}My name\nis\nAlice.{PASTED}\n")
    answer = terminal.expect("\n>>> ")
    assert "My name" not in answer
    terminal.expect("Alice.")
    terminal.expect("\n>>> ")
    assert "\n>>> is" not in terminal.text


def test_keys_that_leave(pronk: Pronk) -> None:
    with Terminal([*COMMAND, "run", "tinychat"], pronk.environ) as terminal:
        terminal.expect(">>> ")
        terminal.type("\x03")
        terminal.expect("Use Ctrl-D or /bye to leave.\n>>> ")
        terminal.type("\x04")
        assert terminal.leave() == 0
        assert terminal.text.endswith("\n"), "the shell's prompt has a line of its own"
        assert ">>>" in terminal.raw.rpartition("Send a message")[2], "and the line that is left invites to nothing"


def test_an_editor(pronk: Pronk, tmp_path: Path) -> None:
    editor = tmp_path / "editor"
    editor.write_text("#!/bin/sh\nprintf 'Hello!' > \"$1\"\n")
    editor.chmod(0o755)
    environ = pronk.environ | {"VISUAL": "", "EDITOR": str(editor)}
    with Terminal([*COMMAND, "run", "tinychat", "--think=false"], environ) as terminal:
        terminal.expect(">>> ")
        terminal.type("\x07")
        terminal.expect("Hello!")
        terminal.type("\n")
        terminal.expect(HELLO)


def test_completion(terminal: Terminal, tmp_path: Path) -> None:
    terminal.type("/set no\t\thistory")
    terminal.expect("nowordwrap")
    terminal.type("\n")
    terminal.expect("Set nohistory")
    terminal.type("/load tiny\t\n")
    terminal.expect("Loaded tinychat\n")
    (tmp_path / "only.png").touch()
    terminal.type(f"{tmp_path}/on\t")
    terminal.expect("only.png")


def test_what_was_set_is_shown(terminal: Terminal) -> None:
    terminal.say("/set parameter num_ctx 512")
    terminal.say("/set parameter stop END")
    terminal.say("/set system Be brief.")
    shown = terminal.say("/show info")
    for row in ("num_ctx        512", 'stop           "END"', "temperature    0", "Be brief."):
        assert row in shown, shown
    assert terminal.say("/show system") == "Be brief."
    assert [line.split() for line in terminal.say("/show parameters").splitlines()] == [
        ["num_ctx", "512"],
        ["stop", '"END"'],
        ["temperature", "0"],
    ]
    assert terminal.say("/set system").startswith("/set system TEXT ")
    assert terminal.say("/show system") == "Be brief."


def test_help(terminal: Terminal) -> None:
    assert "/save NAME" in terminal.say("/?")
    assert "Ctrl-G" in terminal.say("/? shortcuts")
    assert "/set think" in terminal.say("/? set")
    assert "/show license" in terminal.say("/? /show")
    assert terminal.say("/show") == terminal.say("/? show")
    head, *lines = terminal.say("/set parameter ?").splitlines()
    assert head == "/set parameter NAME VALUE..., where NAME is one of"
    assert any(line.startswith("num_ctx ") for line in lines)
    assert max(map(len, lines)) < 80
    assert "`" not in "".join(lines)


def test_a_conversation_that_is_saved(terminal: Terminal, pronk: Pronk) -> None:
    terminal.say("My name is Alice.")
    terminal.say("/set system Be brief.")
    assert terminal.say("/save kept").startswith("Saved as kept")
    assert terminal.say("/save no/such:name:x") == "Error: invalid model name"
    assert "kept:latest" in terminal.say("/list")
    terminal.type("/load kept\n")
    terminal.expect("Loaded kept\n>>> My name is Alice.\n")
    terminal.expect("\n>>> ")
    assert "Alice" in terminal.say("What is my name?")
    terminal.type("/bye\n")
    assert terminal.leave() == 0
    modelfile = pronk.succeed("show", "kept", "--modelfile")
    assert "\nSYSTEM Be brief.\n" in modelfile
    assert "\nPARAMETER temperature 0\n" in modelfile
    assert "\nMESSAGE user My name is Alice.\n" in modelfile
    with Terminal([*COMMAND, "run", "kept", "--think=false"], pronk.environ) as again:
        again.expect(">>> My name is Alice.\n")
        again.expect("\n>>> ")
        assert "Alice" in again.say("What is my name?")


@pytest.mark.parametrize("flags", [[], ["--truncate=false"]])
def test_a_prompt_that_is_cut_is_told(terminal: Terminal, pronk: Pronk, flags: list[str]) -> None:
    """Where nobody has set a context it grows; so it is set."""
    (pronk.home / "Modelfile").write_text("FROM tinychat\nPARAMETER num_ctx 256\n")
    pronk.succeed("create", "small", "-f", str(pronk.home / "Modelfile"))
    result = pronk("run", "small", "--think=false", *flags, "Hello! " * 400)
    if flags:
        assert (result.returncode, result.stdout) == (1, "")
        assert result.stderr.startswith("Error: ")
    else:
        assert result.returncode == 0
        assert "Warning: the prompt did not fit the context, " in result.stderr
        assert " tokens were left out\n" in result.stderr
