"""Reads sounds that strangers send (WAV, MP3, FLAC): samples of one channel at the rate that an encoder wants."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from engine.runner.media import UNREADABLE, MediaRejected
from engine.signatures import is_flac, is_wave

try:
    import miniaudio
except ImportError:  # pip has none ready for this machine
    miniaudio = None

UNSUPPORTED = "unsupported audio format"
SLOWEST, FASTEST = 8_000, 192_000  # samples per second
MOST_CHANNELS = 8
LONGEST = 30 * 60  # seconds
TOO_LONG = f"audio too long: at most {LONGEST // 60} minutes are accepted"
SHORTEST = 0.1  # seconds; less is padded with silence
PCM, FLOAT, EXTENSIBLE = 1, 3, 0xFFFE  # WAVE format tags
PIECE = 1 << 16  # samples that are decoded at once
FLAC_RATE = slice(18, 21)  # of the bytes of a file, where the upper 20 bits are the rate
CROSSINGS = 16  # zeros of the sinc on each side when the rate is changed
PASSED = 0.95  # part of the frequencies below the limit that stay

Samples = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class _Format:
    tag: int
    channels: int
    rate: int
    bits: int


def read_sound(data: bytes, rate: int) -> Samples:
    """The samples of a file, -1 to 1, at `rate` per second. Raises MediaRejected."""
    values = _wave(data, rate) if is_wave(data) else _compressed(data, rate)
    return np.pad(values, (0, max(0, math.ceil(SHORTEST * rate) - len(values))))


def _compressed(data: bytes, rate: int) -> Samples:
    """An MP3 or a FLAC as far as it is whole, decoded as libmtmd does it, but never more of it than is accepted.

    What a file says of its own length counts nothing.
    """
    if miniaudio is None:
        raise MediaRejected(UNSUPPORTED)
    if is_flac(data) and (head := data[FLAC_RATE]) and not SLOWEST <= int.from_bytes(head) >> 4 <= FASTEST:
        raise MediaRejected(UNSUPPORTED)
    pieces: list[Samples] = []
    count = 0
    try:
        for piece in miniaudio.stream_memory(data, miniaudio.SampleFormat.FLOAT32, 1, rate, PIECE):
            pieces.append(np.frombuffer(piece, np.float32))
            count += len(piece)
            if count > LONGEST * rate:
                raise MediaRejected(TOO_LONG)
    except miniaudio.DecodeError as error:
        raise MediaRejected(UNREADABLE) from error
    if not count:
        raise MediaRejected(UNREADABLE)
    return _bounded(np.concatenate(pieces))


def _wave(data: bytes, rate: int) -> Samples:
    form, body = _parts(data)
    known = (form.tag == PCM and form.bits in (8, 16, 24, 32)) or (form.tag == FLOAT and form.bits in (32, 64))
    if not known or not SLOWEST <= form.rate <= FASTEST or not 1 <= form.channels <= MOST_CHANNELS:
        raise MediaRejected(UNSUPPORTED)
    frame = form.channels * form.bits // 8
    count = len(body) // frame
    if not count:
        raise MediaRejected(UNREADABLE)
    if count > LONGEST * form.rate:
        raise MediaRejected(TOO_LONG)
    values = _values(body[: count * frame], form).reshape(count, form.channels).mean(axis=1, dtype=np.float32)
    return resampled(_bounded(values), form.rate, rate)


def _bounded(values: Samples) -> Samples:
    return np.nan_to_num(values, nan=0, posinf=0, neginf=0).clip(-1, 1)


def _parts(data: bytes) -> tuple[_Format, bytes]:
    """The format and the bytes of the samples that are there, whatever the file says of their number."""
    form = None
    at = 12
    while at + 8 <= len(data):
        kind, size = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "little")
        body = data[at + 8 : at + 8 + size]
        if kind == b"fmt " and len(body) >= 16:
            form = _format(body)
        elif kind == b"data" and form is not None:
            return form, body
        at += 8 + size + size % 2
    raise MediaRejected(UNREADABLE)


def _format(body: bytes) -> _Format:
    def number(start: int, size: int) -> int:
        return int.from_bytes(body[start : start + size], "little")

    tag = number(0, 2)
    return _Format(number(24, 2) if tag == EXTENSIBLE else tag, number(2, 2), number(4, 4), number(14, 2))


def _values(body: bytes, form: _Format) -> npt.NDArray[np.float64] | Samples:
    match form.tag, form.bits:
        case (1, 8):
            return (np.frombuffer(body, np.uint8).astype(np.float32) - 128) / 128
        case (1, 16):
            return np.frombuffer(body, "<i2").astype(np.float32) / 32768
        case (1, 24):
            padded = np.zeros((len(body) // 3, 4), np.uint8)
            padded[:, 1:] = np.frombuffer(body, np.uint8).reshape(-1, 3)
            return padded.view("<i4")[:, 0].astype(np.float32) / 2147483648
        case (1, 32):
            return np.frombuffer(body, "<i4").astype(np.float32) / 2147483648
        case (_, 32):
            return np.frombuffer(body, "<f4")
        case _:
            return np.frombuffer(body, "<f8")


def resampled(values: Samples, before: int, after: int) -> Samples:
    """The same sound at another rate, without what the lower rate cannot hold: a windowed sinc for each phase."""
    if before == after:
        return values
    divisor = math.gcd(before, after)
    up, down = after // divisor, before // divisor  # `up` phases, which come again every `down` samples
    cutoff = PASSED * min(1.0, after / before)
    half = math.ceil(CROSSINGS / min(1.0, after / before))
    count = len(values) * after // before
    blocks = -(-count // up)
    padded = np.pad(values, (half, half + down * blocks))
    out = np.empty((blocks, up), np.float32)
    taps = np.arange(-half + 1, half + 1)
    for phase in range(up):
        whole, rest = divmod(phase * down, up)
        distance = taps - rest / up
        window = 0.5 + 0.5 * np.cos(np.pi * np.clip(distance / half, -1, 1))
        weights = (cutoff * np.sinc(cutoff * distance) * window).astype(np.float32)
        windows = np.lib.stride_tricks.sliding_window_view(padded[whole + 1 :], 2 * half)[::down][:blocks]
        out[:, phase] = windows @ (weights / weights.sum())
    return out.reshape(-1)[:count]
