"""The key: made once, in Ollama's files, and kept."""

import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from registry.errors import KeyUnusable
from registry.remote.auth import Key
from tests.outside import needs

SEED = bytes(range(32))


def test_the_signature_of_ollama() -> None:
    nothing = "ZTNiMGM0NDI5OGZjMWMxNDlhZmJmNGM4OTk2ZmI5MjQyN2FlNDFlNDY0OWI5MzRjYTQ5NTk5MWI3ODUyYjg1NQ=="
    url = (
        "https://ollama.com/token?nonce=AAAAAAAAAAAAAAAAAAAAAA"
        "&scope=repository%3Alibrary%2Fx%3Apull&service=ollama.com&ts=1700000000"
    )
    assert Key(Ed25519PrivateKey.from_private_bytes(SEED)).sign(f"GET,{url},{nothing}".encode()) == (
        "AAAAC3NzaC1lZDI1NTE5AAAAIAOhB7/zzhC+HXDdGOdLwJln5NYwm6UNXx3chmQSVTG4:"
        "NmyA/YVdmlIEmzZfF7nIxZ7h6/8tejKocudJtzb1MFxK7fGofDlXcI4fTcae6bRGLj37yQcV5vZwmJARb/5YBA=="
    )


def test_a_key_is_made_and_kept(tmp_path: Path) -> None:
    folder = tmp_path / "home" / ".ollama"
    key = Key.load_or_make(folder)
    private, public = folder / "id_ed25519", folder / "id_ed25519.pub"
    assert private.read_text().startswith("-----BEGIN OPENSSH PRIVATE KEY-----\n")
    assert private.stat().st_mode & 0o777 == 0o600
    assert public.read_text() == f"{key.public_line}\n"
    assert sorted(path.name for path in folder.iterdir()) == ["id_ed25519", "id_ed25519.pub"]
    assert Key.load_or_make(folder).sign(b"x") == key.sign(b"x")


def test_ssh_keygen_reads_it(tmp_path: Path) -> None:
    [program] = needs("ssh-keygen")
    key = Key.load_or_make(tmp_path)
    found = subprocess.run(
        [program, "-y", "-f", tmp_path / "id_ed25519"], capture_output=True, text=True, check=True
    ).stdout
    assert found.split()[:2] == key.public_line.split()


def test_a_key_that_is_there_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "id_ed25519").write_text("garbage")
    with pytest.raises(KeyUnusable, match="the key id_ed25519 cannot be read"):
        Key.load_or_make(tmp_path)
    assert (tmp_path / "id_ed25519").read_text() == "garbage"


def test_a_key_of_another_kind(tmp_path: Path) -> None:
    other = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )
    (tmp_path / "id_ed25519").write_bytes(other)
    with pytest.raises(KeyUnusable, match="of another kind"):
        Key.load_or_make(tmp_path)


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(KeyUnusable) as caught:
        Key.load_or_make(tmp_path / "file" / "keys")
    assert str(tmp_path) not in str(caught.value)
