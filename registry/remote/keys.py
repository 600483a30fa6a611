"""The ed25519 key that identifies us to registries, in Ollama's files."""

from __future__ import annotations

import base64
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from registry.errors import KeyUnusable

PRIVATE: Final = "id_ed25519"
PUBLIC: Final = "id_ed25519.pub"
_MOST_BYTES = 64 << 10


class Key:
    """An ed25519 key. Thread-safe."""

    def __init__(self, private: Ed25519PrivateKey) -> None:
        self._private = private

    @classmethod
    def load_or_make(cls, folder: Path) -> Key:
        """The key in a folder, created if missing. Blocking. Raises KeyUnusable."""
        with _readable():
            if not (folder / PRIVATE).exists():
                _make(folder)
            with (folder / PRIVATE).open("rb") as file:
                private = serialization.load_ssh_private_key(file.read(_MOST_BYTES), password=None)
        if not isinstance(private, Ed25519PrivateKey):
            raise KeyUnusable(f"the key {PRIVATE} is of another kind")
        return cls(private)

    @property
    def public_line(self) -> str:
        """The public key in OpenSSH's form: `ssh-ed25519 AAAA…`."""
        return _public_line(self._private).decode()

    def sign(self, data: bytes) -> str:
        """`PUBLIC_KEY:SIGNATURE` for these bytes, both base64, as Ollama's registry expects."""
        signature = base64.b64encode(self._private.sign(data)).decode()
        return f"{self.public_line.split()[1]}:{signature}"


def _make(folder: Path) -> None:
    private = Ed25519PrivateKey.generate()
    text = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )
    folder.mkdir(parents=True, exist_ok=True)
    descriptor, unfinished = tempfile.mkstemp(prefix=f".{PRIVATE}-", dir=folder)
    try:
        with open(descriptor, "wb") as file:
            file.write(text)
            file.flush()
            os.fsync(descriptor)
        with suppress(FileExistsError):  # another process was faster; its key counts
            os.link(unfinished, folder / PRIVATE)
            (folder / PUBLIC).write_bytes(_public_line(private) + b"\n")
    finally:
        os.unlink(unfinished)


def _public_line(private: Ed25519PrivateKey) -> bytes:
    return private.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)


@contextmanager
def _readable() -> Iterator[None]:
    """Turn errors into KeyUnusable, without the key's path."""
    try:
        yield
    except OSError as error:
        raise KeyUnusable(f"cannot open the key {PRIVATE}: {error.strerror or 'input/output error'}") from None
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise KeyUnusable(f"the key {PRIVATE} cannot be read") from None
