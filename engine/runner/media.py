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
