"""The verb pull, with and without a terminal to draw on."""

from tests.cli.conftest import COMMAND, Pronk
from tests.cli.terminal import Terminal


def test_lines_for_a_file(pronk: Pronk) -> None:
    result = pronk("pull", "tinychat")
    assert (result.returncode, result.stdout) == (0, "")
    first, *layers, verifying, writing, last = result.stderr.splitlines()
    assert (first, verifying) == ("pulling manifest", "verifying sha256 digest")
    assert (writing, last) == ("writing manifest", "success")
    assert layers
    assert all(line.startswith("pulling ") for line in layers)


def test_bars_for_a_person(pronk: Pronk) -> None:
    with Terminal([*COMMAND, "pull", "tinychat"], pronk.environ) as terminal:
        assert terminal.leave() == 0
    assert "4.4/4.4 MB" in terminal.text
    assert terminal.text.count("success") >= 1


def test_a_registry_is_not_asked_yet(pronk: Pronk) -> None:
    assert pronk.fail("pull", "nope") == "Error: pulling from a registry is not supported yet\n"
