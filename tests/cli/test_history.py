"""What was typed, kept between sessions."""

from pathlib import Path

import pytest

from cli.input import LIMIT, History
from tests.cli.conftest import COMMAND, Pronk
from tests.cli.terminal import Terminal

UP = "\x1b[A"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / ".ollama" / "history"


def test_lines_are_appended_for_their_owner_alone(file: Path) -> None:
    history = History(file, kept=True)
    for line in ("one", "  ", "two"):
        history.add(line)
    assert file.read_text() == "one\ntwo\n"
    assert file.stat().st_mode & 0o777 == 0o600


def test_nothing_is_kept_unless_wanted(file: Path) -> None:
    History(file, kept=False).add("one")
    assert not file.exists()


def test_a_file_that_has_grown_is_cut(file: Path) -> None:
    file.parent.mkdir()
    file.write_text("".join(f"{number}\n" for number in range(3 * LIMIT)))
    History(file, kept=True).load()
    assert file.read_text().splitlines() == [str(number) for number in range(2 * LIMIT, 3 * LIMIT)]


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    history = History(tmp_path / "file" / "history", kept=True)
    history.load()
    history.add("one")


def test_the_next_session_remembers(pronk: Pronk, file: Path) -> None:
    for keys in ("Hello!\n/bye\n", f"{UP}{UP}\n/bye\n"):
        with Terminal([*COMMAND, "run", "tinychat", "--think=false"], pronk.environ) as terminal:
            terminal.expect(">>> ")
            terminal.type(keys)
            assert terminal.leave() == 0
            assert "How can I help you today?" in terminal.text
    assert file.read_text().splitlines() == ["Hello!", "/bye", "Hello!", "/bye"]


@pytest.mark.parametrize("errors", ["strict", "surrogateescape"])
def test_bytes_that_are_not_utf_8(pronk: Pronk, file: Path, errors: str) -> None:
    environ = pronk.environ | {"LC_ALL": "C.UTF-8", "INPUTRC": "/dev/null", "PYTHONIOENCODING": f"utf-8:{errors}"}
    with Terminal([*COMMAND, "run", "tinychat", "--think=false"], environ) as terminal:
        terminal.expect(">>> ")
        terminal.type("/set system a\udcffb\n")
        terminal.expect("\nSet system a")
        terminal.type("/bye\n")
        assert terminal.leave() == 0
    assert file.read_text().splitlines()[-1] == "/bye"


def test_no_history_by_the_environment(pronk: Pronk, file: Path) -> None:
    with Terminal([*COMMAND, "run", "tinychat"], pronk.environ | {"OLLAMA_NOHISTORY": "1"}) as terminal:
        terminal.expect(">>> ")
        terminal.type("/bye\n")
        assert terminal.leave() == 0
    assert not file.exists()
