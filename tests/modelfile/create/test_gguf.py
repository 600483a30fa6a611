"""The kind of a GGUF file: model, adapter or projector."""

from pathlib import Path

import pytest

from modelfile.create.files import media_type, read_gguf
from modelfile.create.request import CreateError
from registry import manifest as media_types
from tests.modelfile.create.models import ADAPTER, PROJECTOR, flag, gguf, number, string

VISION = (number("llava.vision.block_count", 2),)


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (gguf(), media_types.MODEL),
        (gguf("clip"), media_types.MODEL),
        (PROJECTOR, media_types.PROJECTOR),
        (ADAPTER, media_types.ADAPTER),
        (gguf("x", string("general.type", "mmproj")), media_types.PROJECTOR),
        (gguf("x", string("general.type", "projector")), media_types.PROJECTOR),
        (gguf("x", string("general.type", "model")), media_types.MODEL),
        (gguf("x", number("general.type", 1)), media_types.MODEL),
        (gguf("clip", flag("clip.has_audio_encoder")), media_types.PROJECTOR),
        (gguf("clip", flag("clip.has_audio_encoder"), number("clip.block_count", 1)), media_types.MODEL),
        (gguf("llava", *VISION), media_types.PROJECTOR),
        (gguf("llava", *VISION, number("llava.block_count", 2)), media_types.MODEL),
        (gguf("llava", number("llava.vision.block_count", 0)), media_types.MODEL),
    ],
)
def test_kinds(tmp_path: Path, data: bytes, kind: str) -> None:
    (tmp_path / "m").write_bytes(data)
    assert media_type(read_gguf(tmp_path / "m")) == kind


def test_a_broken_file(tmp_path: Path) -> None:
    (tmp_path / "m").write_bytes(gguf(parameters=8)[:-1])
    with pytest.raises(CreateError, match="exceeds file size"):
        read_gguf(tmp_path / "m")
