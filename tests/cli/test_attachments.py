"""Files that a message names."""

import os
from pathlib import Path

import pytest

from cli.arguments import CommandError
from cli.attachments import attach, begins_with_file, read

FILES = ("cat.png", "my cat.PNG", "it's.jpg", "a(1).webp", "hello.wav", "phone.HEIC", "notes.txt", "photo.png.bak")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder and home, with files whose content is their name."""
    for name in FILES:
        (tmp_path / name).write_text(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize(
    ("message", "text", "names"),
    [
        ("What is this? {0}/cat.png", "What is this?", ["cat.png"]),
        ("What is this? ./cat.png", "What is this?", ["cat.png"]),
        ("What is this? ~/cat.png", "What is this?", ["cat.png"]),
        ("What is this? cat.png", "What is this?", ["cat.png"]),
        ("cat.png, what is it?", ", what is it?", ["cat.png"]),
        ("Is it in {0}/cat.png?", "Is it in ?", ["cat.png"]),
        ("{0}/my cat.PNG what is it", "what is it", ["my cat.PNG"]),
        ("{0}/my\\ cat.PNG what is it", "what is it", ["my cat.PNG"]),
        ("'{0}/my cat.PNG' what is it", "what is it", ["my cat.PNG"]),
        ('"{0}/my cat.PNG" what is it', "what is it", ["my cat.PNG"]),
        ("file://{0}/my%20cat.PNG what is it", "what is it", ["my cat.PNG"]),
        ("{0}/a\\(1\\).webp", "", ["a(1).webp"]),
        ("{0}/it\\'s.jpg", "", ["it's.jpg"]),
        ("Compare cat.png and my cat.PNG now", "Compare  and  now", ["cat.png", "my cat.PNG"]),
        ("cat.png cat.png", "", ["cat.png", "cat.png"]),
        ("Say what hello.wav says", "Say what  says", ["hello.wav"]),
        ("What is in phone.HEIC?", "What is in ?", ["phone.HEIC"]),
        ("line one\ncat.png\nline two", "line one\n\nline two", ["cat.png"]),
        ("No file: dog.png /cat.png /etc/x.png", None, []),
        ("No picture: notes.txt photo.png.bak .png", None, []),
        ("Unclosed: 'cat.png", None, []),
        ("nul\0.png " + "/" * 5000 + ".png ~nobody/cat.png", None, []),
        ("  blanks stay without files ", None, []),
    ],
)
def test_names(folder: Path, message: str, text: str | None, names: list[str]) -> None:
    message = message.replace("{0}", str(folder))
    kept, attachments = attach(message)
    assert kept == (message if text is None else text)
    assert [attachment.content.decode() for attachment in attachments] == names


def test_a_long_text_with_many_names_of_no_file(folder: Path) -> None:
    text = "a.png " * 20_000
    assert attach(text) == (text, [])


@pytest.mark.parametrize(
    ("message", "begins"),
    [
        ("{0}/cat.png what is it?", True),
        ("{0}/my\\ cat.PNG what is it?", True),
        ("{0}/dog.png what is it?", False),
        ("/set system {0}/cat.png", False),
        ("/load cat.png", False),
    ],
)
def test_a_message_that_begins_with_a_file(folder: Path, message: str, begins: bool) -> None:
    assert begins_with_file(message.replace("{0}", str(folder))) is begins


def test_what_is_added_is_told(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    attach("cat.png hello.wav")
    assert capsys.readouterr().err == "Added image 'cat.png'\nAdded audio 'hello.wav'\n"


def test_a_name_of_no_file_is_told(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    attach("Is 'dog.png' or /x/Dog.JPG, not cat.png? Say .png or photo.png.bak or png")
    assert (
        capsys.readouterr().err == "Added image 'cat.png'\nThere is no file 'dog.png'\nThere is no file '/x/Dog.JPG'\n"
    )


def test_a_file_that_is_not_there(folder: Path) -> None:
    with pytest.raises(CommandError, match=r"^dog\.png cannot be read: No such file or directory$"):
        read(Path("dog.png"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_that_cannot_be_read(folder: Path) -> None:
    (folder / "cat.png").chmod(0)
    with pytest.raises(CommandError, match=r"cat\.png cannot be read: Permission denied"):
        attach("cat.png")
