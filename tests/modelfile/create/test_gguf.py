"""What GGUF files are for."""

from pathlib import Path

import pytest

from modelfile.create.files import media_type, read_gguf
from modelfile.create.request import CreateError
from registry import manifest as kinds
from tests.modelfile.create.models import ADAPTER, PROJECTOR, flag, gguf, number, string

VISION = (number("llava.vision.block_count", 2),)


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (gguf(), kinds.MODEL),
        (gguf("clip"), kinds.MODEL),
        (PROJECTOR, kinds.PROJECTOR),
        (ADAPTER, kinds.ADAPTER),
        (gguf("x", string("general.type", "mmproj")), kinds.PROJECTOR),
        (gguf("x", string("general.type", "projector")), kinds.PROJECTOR),
        (gguf("x", string("general.type", "model")), kinds.MODEL),
        (gguf("x", number("general.type", 1)), kinds.MODEL),
        (gguf("clip", flag("clip.has_audio_encoder")), kinds.PROJECTOR),
        (gguf("clip", flag("clip.has_audio_encoder"), number("clip.block_count", 1)), kinds.MODEL),
        (gguf("llava", *VISION), kinds.PROJECTOR),
        (gguf("llava", *VISION, number("llava.block_count", 2)), kinds.MODEL),
        (gguf("llava", number("llava.vision.block_count", 0)), kinds.MODEL),
    ],
)
def test_kinds(tmp_path: Path, data: bytes, kind: str) -> None:
    (tmp_path / "m").write_bytes(data)
    assert media_type(read_gguf(tmp_path / "m")) == kind


def test_a_broken_file(tmp_path: Path) -> None:
    (tmp_path / "m").write_bytes(gguf(parameters=8)[:-1])
    with pytest.raises(CreateError, match="exceeds file size"):
        read_gguf(tmp_path / "m")
