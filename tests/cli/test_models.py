"""The verbs that list and handle models, on a real store."""

import re

from tests.cli.conftest import Pronk


def test_the_life_of_a_model(pronk: Pronk) -> None:
    assert pronk.succeed("list") == "NAME    ID    SIZE    MODIFIED \n"
    pronk.succeed("pull", "tinychat")
    head, line = pronk.succeed("list").splitlines()
    assert head.split() == ["NAME", "ID", "SIZE", "MODIFIED"]
    assert re.fullmatch(r"tinychat:latest    [0-9a-f]{12}    4\.4 MB    [A-Za-z0-9 ]+ (second|seconds) ago    ", line)
    assert head.index("ID") == line.index(line.split()[1])

    assert pronk.succeed("cp", "tinychat", "other:v1") == "copied 'tinychat' to 'other:v1'\n"
    assert [line.split()[0] for line in pronk.succeed("ls").splitlines()[1:]] == ["other:v1", "tinychat:latest"]
    assert [line.split()[0] for line in pronk.succeed("list", "TINY").splitlines()[1:]] == ["tinychat:latest"]

    assert pronk.succeed("rm", "tinychat", "other:v1") == "deleted 'tinychat'\ndeleted 'other:v1'\n"
    assert len(pronk.succeed("list").splitlines()) == 1


def test_a_loaded_model(pronk: Pronk) -> None:
    head = "NAME    ID    SIZE    PROCESSOR    CONTEXT    UNTIL \n"
    assert pronk.succeed("ps") == head
    pronk.succeed("run", "tinychat", "--keepalive", "30m", "--think=false", "Hello!")
    line = pronk.succeed("ps").splitlines()[1]
    cells = re.split(r" {2,}", line.strip())
    assert cells[0] == "tinychat:latest"
    assert re.fullmatch(r"\d+ MB", cells[2])
    assert cells[3] == "100% CPU"
    assert int(cells[4]) >= 256
    assert cells[5] in ("29 minutes from now", "30 minutes from now")
    assert pronk.succeed("stop", "tinychat") == ""
    assert pronk.succeed("ps") == head


def test_a_plan(pronk: Pronk) -> None:
    pronk.succeed("pull", "tinychat")
    head, line, _, sentence = pronk.succeed("plan", "tinychat", "--ctx", "512").splitlines()
    assert head.split() == [
        "DEVICE",
        "LAYERS",
        "WEIGHTS",
        "CACHE",
        "COMPUTE",
        "OTHER",
        "SIZE",
        "PROMPT",
        "CACHE",
        "FREE",
    ]
    assert re.search(r" MB +up to \d+ MB ", line), "what the prompt cache may take is no part of the size"
    assert "4.3 MB" in line
    assert re.fullmatch(r"It fits: \d+ MB, 512 tokens of context, \d requests at once\.", sentence)
    assert len(pronk.succeed("ps").splitlines()) == 1, "nothing was loaded"
    longer, fits = pronk.succeed("plan", "tinychat", "--ctx", "5000", "--gpu-layers", "0").splitlines()[3:5]
    assert longer == "A context of 5000 tokens is more than it was trained for: it gets 1024."
    assert fits.startswith("It fits: ")
    assert pronk.fail("plan", "nope") == 'Error: couldn\'t find model "nope"\n'


def test_names_that_nothing_has(pronk: Pronk) -> None:
    assert pronk.fail("stop", "nope") == 'Error: couldn\'t find model "nope" to stop\n'
    assert pronk.fail("cp", "nope", "x") == 'Error: model "nope" not found\n'
    assert pronk.fail("rm", "nope") == "Error: model 'nope' not found\n"
    assert pronk.fail("show", "nope") == "Error: model 'nope:latest' not found\n"


def test_what_was_deleted_before_the_failure_is_told(pronk: Pronk) -> None:
    pronk.succeed("pull", "tinychat")
    result = pronk("rm", "tinychat", "nope")
    assert (result.returncode, result.stdout) == (1, "deleted 'tinychat'\n")
    assert result.stderr == "Error: model 'nope' not found\n"
