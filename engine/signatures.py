"""The kinds of files that come as images of a message, by their first bytes."""

from __future__ import annotations


def is_wave(data: bytes) -> bool:
    """Whether a file is a WAV."""
    return data[:4] == b"RIFF" and data[8:12] == b"WAVE"


def is_flac(data: bytes) -> bool:
    """Whether a file is a FLAC without a tag of another format before it."""
    return data[:4] == b"fLaC"


def is_sound(data: bytes) -> bool:
    """Whether a file is a sound: WAV, MP3 or FLAC. All else is read as a picture."""
    mp3 = data[:3] == b"ID3" or (len(data) > 1 and data[0] == 0xFF and data[1] >= 0xE0)
    return is_wave(data) or is_flac(data) or mp3


def is_picture(data: bytes) -> bool:
    """Whether a file is a picture: PNG, JPEG, WebP, GIF or BMP."""
    webp = data[:4] == b"RIFF" and data[8:12] == b"WEBP"
    return webp or data.startswith((b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"BM"))
