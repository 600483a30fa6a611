"""`pronk run` with the bundled model that sees: what it says of pictures that are named, dropped or piped."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.cli.conftest import COMMAND, Pronk
from tests.cli.terminal import Terminal
from tests.serving import PATIENCE, ROOT

BUNDLED = ROOT / "registry" / "bundled" / "sight.png"  # red on the left, blue on the right
LEFT, RIGHT = "What is on the left?", "What is on the right?"


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """The bundled picture in a file with blanks in its name."""
    path = tmp_path / "my pictures" / "two shapes.png"
    path.parent.mkdir()
    shutil.copy(BUNDLED, path)
    return path


def test_pictures_of_one_prompt(pronk: Pronk, picture: Path) -> None:
    for named in (str(picture), f"'{picture}'", str(picture).replace(" ", "\\ ")):
        result = pronk("run", "sight", f"{LEFT} {named}")
        assert "red" in result.stdout, result.stderr
        assert f"Added image '{picture}'" in result.stderr
    assert "blue" in pronk.succeed("run", "--image", str(picture), "sight", RIGHT)
    assert "blue" in pronk.succeed("run", "--image", str(picture), "sight", stdin=RIGHT)


def test_a_picture_from_a_pipe(pronk: Pronk) -> None:
    data = BUNDLED.read_bytes()
    command = [*COMMAND, "run", "sight", LEFT]
    shown, bare = (
        subprocess.run(
            [*command, *more], env=pronk.environ, input=data, capture_output=True, timeout=PATIENCE, cwd=ROOT
        )
        for more in (["--image", "/dev/stdin"], [])
    )
    assert b"red" in shown.stdout, shown.stderr
    assert (bare.returncode, bare.stdout) == (1, b"")
    assert bare.stderr.endswith(b"Error: piped input is no text; --image /dev/stdin takes a picture or a sound\n")


def test_a_picture_from_a_file_as_standard_input(pronk: Pronk) -> None:
    for image in ("/dev/stdin", str(BUNDLED)):
        with BUNDLED.open("rb") as stdin:
            command = [*COMMAND, "run", "sight", "--image", image, LEFT]
            shown = subprocess.run(
                command, env=pronk.environ, stdin=stdin, capture_output=True, timeout=PATIENCE, cwd=ROOT
            )
        assert b"red" in shown.stdout, shown.stderr


def test_a_model_that_takes_no_pictures(pronk: Pronk) -> None:
    result = pronk("run", "tinychat", f"Say hello to {BUNDLED}")
    assert result.returncode == 0
    assert f"'{BUNDLED}' is not shown: the model takes no pictures and no sounds\n" in result.stderr


def test_the_overview_has_the_projector(pronk: Pronk) -> None:
    pronk.succeed("pull", "sight")
    shown = pronk.succeed("show", "sight")
    rows = [line.split() for line in shown.partition("  Projector\n")[2].partition("\n\n")[0].splitlines()]
    assert rows == [
        ["architecture", "clip"],
        ["parameters", "338K"],
        ["embedding", "length", "96"],
        ["dimensions", "96"],
    ]


def test_files_that_cannot_be_shown(pronk: Pronk, tmp_path: Path) -> None:
    pronk.succeed("pull", "sight")
    for name in ("broken.png", "photo.heic"):
        (tmp_path / name).write_bytes(b"no picture")
        assert "Error: Failed to load image or audio file\n" in pronk.fail("run", "sight", f"{LEFT} {tmp_path / name}")
    assert "No such file" in pronk.fail("run", "sight", "--image", str(tmp_path / "none.png"), LEFT)


def test_pictures_of_a_conversation(pronk: Pronk, picture: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"no picture")
    dropped = str(picture).replace(" ", "\\ ")
    with Terminal([*COMMAND, "run", "sight"], pronk.environ) as terminal:
        terminal.expect(">>> ")
        terminal.say("/set parameter temperature 0")
        assert "red" in terminal.say(f"{dropped} {LEFT}").lower()
        terminal.say("/clear")
        assert "Failed to load image" in terminal.say(f"{tmp_path}/broken.png {LEFT}")
        assert "unknown command" in terminal.say(f"{tmp_path}/none.png {LEFT}")
        assert "blue" in terminal.say(f"{RIGHT} {picture}").lower()
        terminal.say("/load sight")
        assert "no picture" in terminal.say("What is this?")
