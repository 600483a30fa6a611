"""The verb create: what it finds, what it sends, how it fails."""

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from tests.cli.conftest import COMMAND, Pronk
from tests.cli.terminal import Terminal
from tests.golden.probes import WEIGHTS
from tests.serving import ROOT

LLAMA = ROOT / "tests" / "data" / "convert" / "llama-spm" / "ckpt"


@pytest.fixture
def here(pronk: Pronk, tmp_path: Path) -> Pronk:
    """The command in an empty folder."""
    folder = tmp_path / "here"
    folder.mkdir()
    return replace(pronk, folder=folder)


def write(here: Pronk, text: str, name: str = "Modelfile") -> None:
    path = here.folder / name
    path.parent.mkdir(exist_ok=True, parents=True)
    path.write_text(text)


def weights(path: Path, token: str = "{GGUF}") -> None:
    path.parent.mkdir(exist_ok=True, parents=True)
    shutil.copyfile(WEIGHTS[token], path)


def test_bars_for_a_person(here: Pronk) -> None:
    weights(here.folder / "m.gguf", "{F16}")
    write(here, "FROM ./m.gguf\n")
    with Terminal([*COMMAND, "create", "bars", "-f", str(here.folder / "Modelfile")], here.environ) as terminal:
        assert terminal.leave() == 0, terminal.text
    assert "8.2/8.2 MB" in terminal.text
    assert "success" in terminal.text


def test_a_file_is_sent_once(here: Pronk) -> None:
    weights(here.folder / "m.gguf")
    with (here.folder / "m.gguf").open("ab") as file:
        file.write(b"other")
    write(here, "FROM ./m.gguf\n")
    said = [here("create", "once").stderr for _ in range(2)]
    assert ["copying m.gguf" in text for text in said] == [True, False]


@pytest.mark.parametrize("source", ["sub/m.gguf", "./sub/m.gguf", "sub", '"sub"', "../here/sub/m.gguf"])
def test_paths_are_seen_from_the_modelfile(here: Pronk, source: str) -> None:
    weights(here.folder / "deep" / "sub" / "m.gguf")
    (here.folder / "deep" / "here").symlink_to(here.folder / "deep")
    write(here, f"FROM {source.replace('../here', 'here')}\n", "deep/Modelfile")
    here.succeed("create", "relative", "-f", "deep/Modelfile")


def test_a_path_in_the_home_folder(here: Pronk) -> None:
    weights(here.home / "m.gguf")
    write(here, "FROM ~/m.gguf\n")
    here.succeed("create", "at-home")


def test_the_folder_without_a_modelfile(here: Pronk) -> None:
    weights(here.folder / "m.gguf")
    write(here, "{}", "config.json")
    here.succeed("create", "bare")
    assert here.succeed("show", "bare").startswith("  Model\n")


def test_safetensors_become_a_model(here: Pronk) -> None:
    shutil.copytree(LLAMA, here.folder, dirs_exist_ok=True)
    write(here, "FROM .\nSYSTEM Hi\n")
    told = here("create", "converted", "-q", "q8_0")
    assert told.returncode == 0, told.stderr
    assert "verifying conversion" in told.stderr
    assert "Q8_0" in here.succeed("show", "converted")


@pytest.mark.parametrize(
    ("modelfile", "message"),
    [
        ("FROM .", "no Modelfile or safetensors files found"),
        ("FROM ~nobody-at-all/x", "failed to find user 'nobody-at-all': user: unknown user nobody-at-all"),
        ("FROM tinychat\nADAPTER ./no.gguf", "stat {here}/no.gguf: no such file or directory"),
        ("FROM m.gguf\nDRAFT m.gguf", "DRAFT must not reference the same local path as FROM: {here}/m.gguf"),
        ("FROM linked", "insecure path: model.safetensors"),
        ("FROM bad.gguf", "supplied file was not in GGUF format"),
        ("FROM no/such:name:x", "400 Bad Request: invalid model name"),
    ],
)
def test_refusals(here: Pronk, modelfile: str, message: str) -> None:
    weights(here.folder / "m.gguf")
    (here.folder / "nothing").mkdir()
    write(here, "{}", "linked/config.json")
    (here.folder / "linked" / "model.safetensors").symlink_to(LLAMA / "model.safetensors")
    write(here, "no GGUF at all", "bad.gguf")
    write(here, modelfile, "nothing/Modelfile" if modelfile == "FROM ." else "Modelfile")
    said = here.fail("create", "refused", "-f", "nothing/Modelfile" if modelfile == "FROM ." else "Modelfile")
    assert said.splitlines()[-1] == f"Error: {message.format(here=here.folder)}"


def test_a_modelfile_that_is_not_there(here: Pronk) -> None:
    """Another one than that which was named is no model of the folder's own files."""
    weights(here.folder / "m.gguf")
    assert here.fail("create", "refused", "-f", "no/Modelfile") == "Error: specified Modelfile wasn't found\n"
    assert here.fail("create", "refused", "-f", ".") == "Error: open .: Is a directory\n"
    assert here("create", "made").returncode == 0


def test_a_working_directory_that_has_been_deleted(here: Pronk, tmp_path: Path) -> None:
    """Whatever is named by an absolute path still works, and every verb does."""
    weights(tmp_path / "m.gguf")
    (tmp_path / "Modelfile").write_text("FROM ./m.gguf\n")
    script = 'rmdir "$PWD" && exec "$@"'

    def gone(*arguments: str) -> subprocess.CompletedProcess[str]:
        here.folder.mkdir(exist_ok=True)
        command = ["sh", "-c", script, "sh", *COMMAND, *arguments]
        return subprocess.run(command, cwd=here.folder, env=here.environ, capture_output=True, text=True, check=False)

    for arguments in (["create", "x"], ["create", "x", "-f", "../Modelfile"]):
        ended = gone(*arguments)
        assert ended.returncode == 1
        assert "Error: the working directory has been deleted: name a Modelfile by an absolute path" in ended.stderr
    for arguments in (["create", "gone", "-f", str(tmp_path / "Modelfile")], ["show", "gone"], ["ps"], ["rm", "gone"]):
        ended = gone(*arguments)
        assert ended.returncode == 0, ended.stderr
