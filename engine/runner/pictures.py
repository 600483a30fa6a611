"""Reads pictures that strangers send: limits before pixels, then upright RGB of a size that encoders look at."""

from __future__ import annotations

import io
import math
import struct

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from engine.runner.media import UNREADABLE, MediaRejected

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")
MOST_PIXELS = 50_000_000
LONGEST_SIDE = 16_384  # pixels
MOST_EXTREME = 200  # times that the long side has the short one
MOST_USEFUL = 4 << 20  # pixels; no encoder looks at more, and libmtmd shrinks slowly
WHITE = (255, 255, 255, 255)

Pixels = npt.NDArray[np.uint8]

Image.MAX_IMAGE_PIXELS = None  # our limit is lower and is no warning


def read_picture(data: bytes) -> Pixels:
    """The first frame of a picture: height × width × 3, red first, laid over white. Raises MediaRejected."""
    try:
        _check_size(*_webp_size(data))
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            _check_size(*image.size)
            image.load()
            return np.asarray(_shrunk(_rgb(ImageOps.exif_transpose(image))))
    except MediaRejected:
        raise
    except Exception as error:
        raise MediaRejected(UNREADABLE) from error


def _check_size(width: int, height: int) -> None:
    if width * height > MOST_PIXELS or max(width, height) > LONGEST_SIDE:
        limits = f"at most {MOST_PIXELS // 1_000_000} megapixels and {LONGEST_SIDE} pixels a side are accepted"
        raise MediaRejected(f"image too large: {width} x {height} pixels, {limits}")
    if max(width, height) > MOST_EXTREME * max(min(width, height), 1):
        limit = f"one side may be at most {MOST_EXTREME} times as long as the other"
        raise MediaRejected(f"image has an extreme shape: {width} x {height} pixels, {limit}")


def _webp_size(data: bytes) -> tuple[int, int]:
    """The size of a WebP, whose memory its library takes as soon as it is opened; 1 × 1 for other files."""
    if data[:4] != b"RIFF" or data[8:12] != b"WEBP":
        return 1, 1
    kind, head = data[12:16], data[20:30]
    if kind == b"VP8X":
        return 1 + int.from_bytes(head[4:7], "little"), 1 + int.from_bytes(head[7:10], "little")
    if kind == b"VP8L":
        bits = int.from_bytes(head[1:5], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    width, height = struct.unpack_from("<HH", head, 6)
    return width & 0x3FFF, height & 0x3FFF


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # gray with 16 bits, which `convert` would clip
        return Image.fromarray((np.asarray(image) >> 8).clip(0, 255).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        ground = Image.new("RGBA", image.size, WHITE)
        ground.alpha_composite(image.convert("RGBA"))
        image = ground
    return image.convert("RGB")


def _shrunk(image: Image.Image) -> Image.Image:
    pixels = image.width * image.height
    if pixels <= MOST_USEFUL:
        return image
    scale = math.sqrt(MOST_USEFUL / pixels)
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    return image.resize(size, Image.Resampling.BICUBIC)
