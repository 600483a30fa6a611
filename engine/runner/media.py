"""Pictures and sounds on their way from a file to an encoder."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

UNREADABLE = "Failed to load image or audio file"


class MediaRejected(ValueError):
    """A file that cannot be seen or heard. The message is for users."""


@dataclass(frozen=True, slots=True)
class Picture:
    """Pixels: uint8, height × width × 3, red first."""

    pixels: npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Sound:
    """Samples of one channel at the projector's rate: float32, -1 to 1."""

    samples: npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class PictureSize:
    """A picture without its pixels, which are needed only to encode it."""

    width: int
    height: int


Medium = Picture | PictureSize | Sound


def is_sound(data: bytes) -> bool:
    """Whether a file is a sound, by its first bytes: WAV, MP3 or FLAC. All else is taken for a picture."""
    wave = data[:4] == b"RIFF" and data[8:12] == b"WAVE"
    mp3 = data[:3] == b"ID3" or (len(data) > 1 and data[0] == 0xFF and data[1] >= 0xE0)
    return wave or mp3 or data[:4] == b"fLaC"
