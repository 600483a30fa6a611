"""What a client may read of what went wrong with the store."""

import errno
import os

import pytest

from registry.errors import BlobMissing, BlobTooLarge, DigestMismatch, ModelMissing, StoreError, without_paths
from registry.names import Digest, ModelName

ONE, OTHER = Digest.of(b"1"), Digest.of(b"2")


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ModelMissing(ModelName.parse("ns/m")), "model 'ns/m:latest' not found"),
        (BlobMissing(ONE), f"blob {ONE} not found"),
        (BlobTooLarge(ONE, 7), f"blob {ONE} is larger than 7 bytes"),
        (DigestMismatch(ONE, OTHER), f'digest mismatch, expected "{ONE}", got "{OTHER}"'),
    ],
)
def test_texts(error: StoreError, text: str) -> None:
    assert str(error) == text


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/secret/x"), "cannot write: No space left on device"),
        (
            PermissionError(errno.EACCES, "Permission denied", "/secret/x", None, "/secret/y"),
            "cannot write: Permission denied",
        ),
        (OSError("cannot open /secret/x"), "cannot write: input/output error"),
    ],
)
def test_no_path_is_told(error: OSError, text: str) -> None:
    with pytest.raises(StoreError) as caught, without_paths("write"):
        raise error
    assert str(caught.value) == text


def test_other_errors_pass() -> None:
    with pytest.raises(BlobMissing), without_paths("write"):
        raise BlobMissing(ONE)
