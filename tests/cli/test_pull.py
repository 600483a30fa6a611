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


def test_a_registry_that_does_not_answer(pronk: Pronk) -> None:
    told = pronk.fail("pull", "--insecure", "127.0.0.1:1/library/nope")
    assert told.endswith('manifests/latest": connection refused\n')
    assert pronk.fail("push", "nope") == "Error: model 'nope' not found\n"
