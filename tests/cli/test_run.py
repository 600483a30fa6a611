"""`pronk run` non-interactively: one prompt, one answer."""

import re

import pytest

from tests.cli.conftest import COMMAND, Pronk
from tests.cli.terminal import Terminal

HELLO = "Hello! How can I help you today?\n\n"
SUM = "What is 9 + 8?"
THOUGHT = re.compile(r"Thinking\.\.\.\nI need to add 9 and 8\. [0-9 +=.]+\n\.\.\.done thinking\.\n\n9 \+ 8 = \d+\n\n")


def test_a_prompt(pronk: Pronk) -> None:
    result = pronk("run", "tinychat", "--think=false", "Hello!")
    assert (result.returncode, result.stdout) == (0, HELLO)


def test_words_make_one_prompt(pronk: Pronk) -> None:
    assert pronk.succeed("run", "tinychat", "Count", "to", "5", "--think=false") == "1, 2, 3, 4, 5\n\n"


def test_what_is_piped_in(pronk: Pronk) -> None:
    assert pronk.succeed("run", "tinychat", "--think=false", stdin="Hello!\n") == HELLO
    assert pronk.succeed("run", "tinychat", "to", "5", "--think=false", stdin="Count") == "1, 2, 3, 4, 5\n\n"


def test_bytes_that_are_not_utf_8(pronk: Pronk) -> None:
    assert pronk.succeed("run", "tinychat", "--think=false", stdin="Hello\udcff").strip()
    assert pronk.succeed("run", "tinychat", "--think=false", "Hello\udcff").strip()


def test_nothing_to_answer(pronk: Pronk) -> None:
    assert pronk.succeed("run", "tinychat") == ""
    assert "tinychat:latest" in pronk.succeed("ps")


@pytest.mark.parametrize("flags", [[], ["--think"], ["--think=true"]])
def test_thinking_is_shown(pronk: Pronk, flags: list[str]) -> None:
    assert THOUGHT.fullmatch(pronk.succeed("run", "tinychat", *flags, SUM))


def test_thinking_is_hidden(pronk: Pronk) -> None:
    assert re.fullmatch(r"9 \+ 8 = \d+\n\n", pronk.succeed("run", "tinychat", "--hidethinking", SUM))


def test_thinking_is_dimmed_at_a_terminal(pronk: Pronk) -> None:
    with Terminal([*COMMAND, "run", "tinychat", "--think", SUM], pronk.environ) as terminal:
        assert terminal.leave() == 0
    assert THOUGHT.fullmatch(terminal.text)
    dimmed = terminal.raw.partition("\x1b[90m")[2].partition("\x1b[0m")
    assert dimmed[0].startswith("Thinking...")
    assert dimmed[0].endswith("...done thinking.\r\n\r\n")
    assert dimmed[2].startswith("9 + 8 = ")


def test_lines_are_broken_between_words_at_a_terminal(pronk: Pronk) -> None:
    command = [*COMMAND, "run", "tinychat", "--think=false", "Count to 60"]
    with Terminal(command, pronk.environ) as wrapped, Terminal([*command, "--nowordwrap"], pronk.environ) as plain:
        assert (wrapped.leave(), plain.leave()) == (0, 0)
    lines = wrapped.text.rstrip("\n").split("\n")
    assert len(lines) > 2
    assert max(map(len, lines)) <= 76
    assert "".join(lines) == plain.text.rstrip("\n")


def test_a_prompt_that_may_not_be_cut(pronk: Pronk) -> None:
    command = ["run", "tinychat", "--think=false", "--truncate=false", "one two " * 2000]
    error = pronk.fail(*command)
    assert re.fullmatch(r"Error: .* exceeds the available context size \(1024 tokens\), try increasing it\n", error)
    with Terminal([*COMMAND, *command], pronk.environ) as terminal:
        assert terminal.leave() == 1
    assert terminal.text.strip() == error.strip(), "also where progress was told before"


def test_what_it_cost(pronk: Pronk) -> None:
    result = pronk("run", "tinychat", "--think=false", "--verbose", "Hello!")
    assert result.stdout == HELLO
    names = [line.partition(":")[0] for line in result.stderr.splitlines() if "pulling" not in line]
    assert [name for name in names if name.endswith(("duration", "count", "rate"))] == [
        "total duration",
        "load duration",
        "prompt eval count",
        "prompt eval duration",
        "prompt eval rate",
        "eval count",
        "eval duration",
        "eval rate",
    ]
    assert re.search(r"eval count:           \d+ token\(s\)\n", result.stderr)


def test_an_unknown_model(pronk: Pronk) -> None:
    assert pronk.fail("run", "127.0.0.1:1/library/nope", "hi").endswith('manifests/latest": connection refused\n')


def test_a_bad_keepalive(pronk: Pronk) -> None:
    pronk.succeed("pull", "tinychat")
    assert pronk.fail("run", "tinychat", "hi", "--keepalive", "5x") == (
        'Error: time: unknown unit "x" in duration "5x"\n'
    )
