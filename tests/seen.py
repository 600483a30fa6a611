"""Pictures and sounds that tests show to models, and the tiny models that see and hear."""

from __future__ import annotations

import hashlib
import io
import struct
import wave
import zlib
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import numpy.typing as npt
from PIL import Image

from tests.serving import ROOT

MODELS = ROOT / "tests" / "data" / "vision"
MP3 = (ROOT / "tests" / "data" / "tone.mp3").read_bytes()
"""`tone(1, 440)` as LAME encodes it."""
PAIRS = {
    "llava": ("llava", "llava"),
    "qwen2vl": ("qwen2vl", "qwen2vl"),
    "qwen25vl": ("qwen2vl", "qwen25vl"),
    "qwen3vl": ("qwen3vl", "qwen3vl"),
    "gemma3": ("gemma3", "gemma3"),
    "gemma3wide": ("gemma3", "gemma3wide"),
    "idefics3": ("idefics3", "idefics3"),
    "ultravox": ("ultravox", "ultravox"),
    "mismatch": ("llava", "qwen3vl"),
    "blind": ("llava", ""),
}
"""The text model and the projector of each model."""

Pixels = npt.NDArray[np.uint8]


def files_of(name: str) -> tuple[Path, ...]:
    """The text model's file and the projector's, if it has one."""
    text, projector = PAIRS[name]
    return (MODELS / f"{text}-text.gguf", *([MODELS / f"{projector}-mmproj.gguf"] if projector else []))


def create(client: httpx.Client, name: str, paths: tuple[Path, ...], **more: Any) -> None:
    """Have a server make a model of these files."""
    files = {}
    for path in paths:
        data = path.read_bytes()
        files[path.name] = digest = "sha256:" + hashlib.sha256(data).hexdigest()
        client.post(f"/api/blobs/{digest}", content=data).raise_for_status()
    client.post("/api/create", json={"model": name, "files": files, "stream": False, **more}).raise_for_status()


def gradient(width: int, height: int, turn: int = 0) -> Pixels:
    """Red grows to the right, green downwards, blue along both; `turn` rolls the channels."""
    x = np.arange(width, dtype=np.int64)[None, :]
    y = np.arange(height, dtype=np.int64)[:, None]
    red = np.broadcast_to(x * 255 // max(width - 1, 1), (height, width))
    green = np.broadcast_to(y * 255 // max(height - 1, 1), (height, width))
    return np.roll(np.stack([red, green, (x * 7 + y * 13) % 256], axis=-1), turn, axis=-1).astype(np.uint8)


def checker(width: int, height: int, square: int = 8) -> Pixels:
    """Black and white squares with a red corner, so that every flip and turn shows."""
    x, y = np.arange(width)[None, :] // square, np.arange(height)[:, None] // square
    image = np.repeat((((x + y) % 2) * 255)[:, :, None], 3, axis=2).astype(np.uint8)
    image[: height // 4, : width // 4] = (255, 0, 0)
    return image


def tone(seconds: float, hertz: float, rate: int = 16000) -> npt.NDArray[np.float32]:
    """A sine."""
    return (0.4 * np.sin(2 * np.pi * hertz * np.arange(int(seconds * rate)) / rate)).astype(np.float32)


def wav(samples: npt.NDArray[np.float32], rate: int = 16000) -> bytes:
    """A WAV file of one channel with 16 bits."""
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(rate)
        out.writeframes((np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes())
    return buffer.getvalue()


def flac(
    blocks: Iterable[npt.NDArray[np.int16] | int], rate: int = 16000, channels: int = 1, told: int | None = None
) -> bytes:
    """A FLAC of 16 bits whose channels are alike: blocks of samples, or as many samples of silence in some bytes.

    `told` is the number of samples that the file says it has.
    """
    sizes, frames = [], []
    for number, block in enumerate(blocks):
        sizes.append(block if isinstance(block, int) else len(block))
        body = b"\0\0\0" if isinstance(block, int) else b"\x02" + block.astype(">i2").tobytes()
        head = b"\xff\xf8\x70" + bytes([channels - 1 << 4]) + chr(number).encode() + struct.pack(">H", sizes[-1] - 1)
        frame = head + _crc(head, 8, 0x07) + body * channels
        frames.append(frame + _crc(frame, 16, 0x8005))
    facts = rate << 44 | channels - 1 << 41 | 15 << 36 | (sum(sizes) if told is None else told)
    info = struct.pack(">HH6xQ16x", 16, 65535, facts)
    return b"fLaC\x80" + len(info).to_bytes(3) + info + b"".join(frames)


def _crc(data: bytes, bits: int, polynomial: int) -> bytes:
    rest = 0
    for byte in data:
        rest ^= byte << bits - 8
        for _ in range(8):
            rest = (rest << 1) ^ (polynomial if rest >> bits - 1 else 0)
            rest &= (1 << bits) - 1
    return rest.to_bytes(bits // 8)


def saved(image: Image.Image | Pixels, kind: str = "PNG", **more: Any) -> bytes:
    """The file of a picture."""
    buffer = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(buffer, kind, **more)
    return buffer.getvalue()


def bomb(width: int, height: int) -> bytes:
    """A PNG of one colour that is tiny as a file."""
    row = b"\0" + bytes((width + 7) // 8)
    packer = zlib.compressobj(9)
    data = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()

    def part(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + part(b"IHDR", head) + part(b"IDAT", data) + part(b"IEND", b"")


@cache
def files() -> dict[str, bytes]:
    """Files that clients send, good ones of every kind and bad ones, by the names of `data/vision/ollama.json`."""
    rgb, other = Image.fromarray(checker(112, 84)), Image.fromarray(gradient(112, 84))
    turned = Image.Exif()
    turned[0x0112] = 6  # to be turned by 90 degrees clockwise
    clear = rgb.convert("RGBA")
    clear.putalpha(Image.fromarray(np.tile(np.linspace(0, 255, 112).astype(np.uint8), (84, 1))))

    def few(image: Image.Image) -> Image.Image:
        return image.convert("P", palette=Image.Palette.ADAPTIVE)

    return {
        "checker.png": saved(rgb),
        "gradient.png": saved(other),
        "large.png": saved(gradient(300, 200, 1)),
        "tall.png": saved(checker(40, 160)),
        "one.png": saved(checker(112, 84)[:1, :1]),
        "checker.jpg": saved(rgb, "JPEG", quality=95),
        "progressive.jpg": saved(rgb, "JPEG", quality=95, progressive=True),
        "cmyk.jpg": saved(rgb.convert("CMYK"), "JPEG", quality=95),
        "gray.jpg": saved(rgb.convert("L"), "JPEG", quality=95),
        "exif6.jpg": saved(rgb, "JPEG", quality=95, exif=turned),
        "alpha.png": saved(clear),
        "palette.png": saved(few(rgb)),
        "gray.png": saved(rgb.convert("L")),
        "gray16.png": saved(Image.fromarray(gradient(112, 84)[:, :, 0].astype(np.uint16) * 257)),
        "one_bit.png": saved(rgb.convert("1")),
        "checker.webp": saved(rgb, "WEBP", lossless=True),
        "checker.bmp": saved(rgb, "BMP"),
        "checker.gif": saved(few(rgb), "GIF"),
        "animated.gif": saved(few(rgb), "GIF", save_all=True, append_images=[few(other)], duration=100),
        "animated.webp": saved(rgb, "WEBP", lossless=True, save_all=True, append_images=[other], duration=100),
        "checker.tiff": saved(rgb, "TIFF"),
        "checker.ppm": saved(rgb, "PPM"),
        "one_pixel.png": saved(rgb.resize((1, 1))),
        "thin.png": saved(rgb.resize((1000, 2))),
        "truncated.png": saved(other)[:-200],
        "truncated.jpg": saved(rgb, "JPEG", quality=95)[:600],
        "garbage": bytes(range(256)) * 4,
        "text": b"this is no picture",
        "svg": b'<svg xmlns="http://www.w3.org/2000/svg" width="10" height="10"><rect width="10" height="10"/></svg>',
        "heic": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(200),
        "png_head_only": saved(rgb)[:60],
        "png_wrong_crc": saved(rgb)[:-20] + b"\0" * 20,
        "tone.wav": wav(tone(1, 440)),
        "tone880.wav": wav(tone(1, 880)),
        "long.wav": wav(tone(31, 440)),
    }
