"""Files that strangers send: how they are read, and what is refused before anything is decoded."""

from __future__ import annotations

import io
import signal
import struct
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from engine.runner import media_decoder, sounds
from engine.runner.media import UNREADABLE, MediaRejected, Picture, Sound
from engine.runner.media_decoder import MediaDecoder
from engine.runner.pictures import LONGEST_SIDE, MOST_USEFUL, read_picture
from engine.runner.sounds import LONGEST, UNSUPPORTED, read_sound
from engine.signatures import is_sound
from tests.seen import MP3, bomb, checker, files, flac, gradient, saved, tone, wav

RATE = 16000
TONE = (tone(1, 440) * 32767).astype(np.int16)


@pytest.fixture(scope="module")
def decoder() -> Iterator[MediaDecoder]:
    decoder = MediaDecoder()
    yield decoder
    decoder.close()


@pytest.mark.parametrize("name", ["checker.png", "checker.webp", "checker.bmp", "checker.gif", "palette.png"])
def test_pixels_are_those_that_were_saved(name: str) -> None:
    assert np.array_equal(read_picture(files()[name]), checker(112, 84))


@pytest.mark.parametrize("name", ["checker.jpg", "progressive.jpg", "cmyk.jpg"])
def test_jpeg_is_near(name: str) -> None:
    assert np.abs(read_picture(files()[name]).astype(int) - checker(112, 84)).mean() < 6


@pytest.mark.parametrize("name", ["animated.gif", "animated.webp"])
def test_the_first_frame_counts(name: str) -> None:
    assert np.abs(read_picture(files()[name]).astype(int) - checker(112, 84)).mean() < 1


def test_pictures_are_turned_upright() -> None:
    turned = Image.fromarray(checker(112, 84)).transpose(Image.Transpose.ROTATE_270)
    assert np.abs(read_picture(files()["exif6.jpg"]).astype(int) - np.asarray(turned)).mean() < 6


def test_what_is_transparent_is_white() -> None:
    pixels = checker(112, 84)
    for mode in ("RGBA", "LA"):
        clear = Image.fromarray(pixels).convert(mode)
        clear.putalpha(0)
        assert (read_picture(saved(clear)) == 255).all()
    palette = Image.new("P", (8, 8), 1)
    palette.putpalette([0, 0, 0, 9, 9, 9])
    assert (read_picture(saved(palette, transparency=1)) == 255).all()
    assert (read_picture(saved(palette)) == 9).all()


def test_gray_with_16_bits_keeps_its_upper_8() -> None:
    levels = gradient(112, 84)[:, :, 0]
    assert np.array_equal(read_picture(files()["gray16.png"]), np.repeat(levels[:, :, None], 3, axis=2))
    assert np.array_equal(
        read_picture(files()["gray.png"])[..., 0], np.asarray(Image.fromarray(checker(112, 84)).convert("L"))
    )


def test_large_pictures_become_smaller() -> None:
    pixels = read_picture(bomb(8000, 6000))
    assert pixels.shape[0] * pixels.shape[1] == pytest.approx(MOST_USEFUL, rel=0.01)
    assert pixels.shape[1] / pixels.shape[0] == pytest.approx(8 / 6, rel=0.01)


@pytest.mark.parametrize(
    ("size", "text"),
    [
        ((12_000, 12_000), "image too large: 12000 x 12000 pixels, at most 50 megapixels and 16384 pixels a side"),
        ((LONGEST_SIDE + 1, 2000), "image too large: 16385 x 2000"),
        ((1000, 2), "image has an extreme shape: 1000 x 2 pixels"),
        ((2, 1000), "image has an extreme shape: 2 x 1000 pixels"),
    ],
)
def test_sizes_are_checked_before_pixels(monkeypatch: pytest.MonkeyPatch, size: tuple[int, int], text: str) -> None:
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("decoded"))
    for kind in ("PNG", "WEBP") if max(size) <= 16_383 else ("PNG",):
        head = webp_head(*size) if kind == "WEBP" else bomb(*size)
        with pytest.raises(MediaRejected, match=f"^{text}"):
            read_picture(head)


def webp_head(width: int, height: int) -> bytes:
    """The beginning of a WebP of this size without loss."""
    bits = (width - 1) | (height - 1) << 14
    return b"RIFF\x40\0\0\0WEBPVP8L\x30\0\0\0\x2f" + struct.pack("<I", bits) + bytes(40)


def test_the_size_of_a_webp_is_read_as_its_library_reads_it() -> None:
    for more in ({"lossless": True}, {"quality": 80}, {"lossless": True, "exif": Image.Exif().tobytes() + b"x" * 9}):
        image = Image.fromarray(checker(123, 45))
        data = saved(image, "WEBP", **more)
        assert Image.open(io.BytesIO(data)).size == (123, 45)
        assert read_picture(data).shape == (45, 123, 3)


@pytest.mark.parametrize(
    "name",
    ["truncated.png", "truncated.jpg", "png_head_only", "png_wrong_crc", "checker.tiff", "svg", "garbage", "text"],
)
def test_what_is_no_whole_picture_is_refused(name: str) -> None:
    with pytest.raises(MediaRejected, match=f"^{UNREADABLE}$"):
        read_picture(files()[name])


def made(
    values: npt.NDArray[np.float64],
    tag: int,
    bits: int,
    channels: int = 1,
    rate: int = RATE,
    *,
    size: int | None = None,
) -> bytes:
    """A WAV file of these values; `tag` is 1 for whole numbers, 3 for floats."""
    if tag == 3:
        body = values.astype(f"<f{bits // 8}").tobytes()
    elif bits == 8:
        body = (values * 127 + 128).astype(np.uint8).tobytes()
    else:
        numbers = (values * (2.0 ** (bits - 1) - 1)).astype("<i4" if bits > 16 else "<i2")
        body = numbers.tobytes()
        if bits == 24:
            body = numbers.view(np.uint8).reshape(-1, 4)[:, :3].tobytes()
    frame = channels * bits // 8
    form = struct.pack("<HHIIHH", tag, channels, rate, rate * frame, frame, bits)
    told = len(body) if size is None else size
    parts = b"fmt " + struct.pack("<I", len(form)) + form + b"LIST\x03\0\0\0abc\0" + b"data" + struct.pack("<I", told)
    return b"RIFF" + struct.pack("<I", 4 + len(parts) + len(body)) + b"WAVE" + parts + body


@pytest.mark.parametrize(("tag", "bits"), [(1, 8), (1, 16), (1, 24), (1, 32), (3, 32), (3, 64)])
@pytest.mark.parametrize("size", [None, 0xFFFFFFFF])
def test_every_kind_of_number(tag: int, bits: int, size: int | None) -> None:
    values = tone(1, 440).astype(np.float64)
    assert np.abs(read_sound(made(values, tag, bits, size=size), RATE) - values).max() < 2 / 2 ** (min(bits, 16) - 1)


def test_channels_are_averaged() -> None:
    left, right = tone(1, 440).astype(np.float64), tone(1, 880).astype(np.float64)
    both = np.stack([left, right], axis=1).reshape(-1)
    assert np.abs(read_sound(made(both, 3, 32, 2), RATE) - (left + right) / 2).max() < 1e-6


@pytest.mark.parametrize("rate", [8000, 11025, 22050, 44100, 48000, 192_000, 44_101])
def test_other_rates(rate: int) -> None:
    heard = read_sound(wav(tone(1, 440, rate), rate), RATE)
    wanted = tone(1, 440)
    assert abs(len(heard) - len(wanted)) <= 1
    assert np.abs(heard[200:15800] - wanted[200:15800]).max() < 1e-3


def test_what_a_lower_rate_cannot_hold_is_left_out() -> None:
    assert np.abs(read_sound(wav(tone(1, 12_000, 44_100), 44_100), RATE)[200:15800]).max() < 1e-3


def test_strange_numbers_become_silence() -> None:
    values = np.full(RATE, np.nan)
    values[1::2] = np.inf
    assert not read_sound(made(values, 3, 32), RATE).any()


def test_a_short_sound_gets_silence_behind_it() -> None:
    heard = read_sound(made(np.full(1, 0.5), 1, 16), RATE)
    assert len(heard) == RATE // 10
    assert heard[0] == pytest.approx(0.5, abs=1e-3)
    assert not heard[1:].any()


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (made(np.zeros(0), 1, 16), UNREADABLE),
        (made(np.zeros(9), 1, 16, rate=1), UNSUPPORTED),
        (made(np.zeros(9), 1, 16, rate=4_000_000_000 // 2), UNSUPPORTED),
        (made(np.zeros(9), 1, 16, channels=9), UNSUPPORTED),
        (made(np.zeros(9), 7, 16), UNSUPPORTED),
        (made(np.zeros(8000 * (LONGEST + 1)), 1, 8, rate=8000), "audio too long: at most 30 minutes are accepted"),
        (b"RIFF\0\0\0\0WAVE", UNREADABLE),
    ],
)
def test_what_is_no_sound_for_us_is_refused(data: bytes, text: str) -> None:
    assert is_sound(data)
    with pytest.raises(MediaRejected, match=f"^{text}$"):
        read_sound(data, RATE)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"ID3" + bytes(99), UNREADABLE),
        (b"ID3\x04\0\0\x7f\x7f\x7f\x7f" + MP3, UNREADABLE),  # a tag that is longer than the file
        (MP3[:100], UNREADABLE),
        (b"fLaC", UNREADABLE),
        (b"fLaC" + bytes(99), UNSUPPORTED),
        (flac([TONE], rate=1), UNSUPPORTED),
        (flac([TONE], rate=655_350), UNSUPPORTED),
        (flac([TONE])[:60], UNREADABLE),
        (flac([65_535] * 250, rate=8000), "audio too long: at most 30 minutes are accepted"),
    ],
)
def test_what_is_no_mp3_or_flac_for_us_is_refused(data: bytes, text: str) -> None:
    pytest.importorskip("miniaudio")
    assert is_sound(data)
    with pytest.raises(MediaRejected, match=f"^{text}$"):
        read_sound(data, RATE)


def test_without_its_package_flac_and_mp3_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sounds, "miniaudio", None)
    for data in (MP3, flac([TONE])):
        with pytest.raises(MediaRejected, match=f"^{UNSUPPORTED}$"):
            read_sound(data, RATE)


def test_flac_and_mp3() -> None:
    pytest.importorskip("miniaudio")
    wanted = TONE / 32768
    for told in (None, 0, (1 << 36) - 1):  # whatever the file says of its length
        assert np.array_equal(read_sound(flac([TONE[:9000], TONE[9000:]], told=told), RATE), wanted)
    cut = read_sound(flac([TONE[:9000], TONE[9000:]])[:-100], RATE)
    assert np.array_equal(cut, wanted[:9000])  # as far as it is whole
    assert np.array_equal(read_sound(flac([TONE], channels=8), RATE), wanted)
    for data, rate in ((MP3, RATE), (MP3[: len(MP3) // 2], RATE), (MP3, 24_000), (flac([TONE]), 24_000)):
        sound = read_sound(data, rate)
        loudest = np.abs(np.fft.rfft(sound * np.hanning(len(sound)))).argmax() * rate / len(sound)
        assert loudest == pytest.approx(440, abs=4)
        assert np.abs(sound).max() == pytest.approx(0.4, abs=0.03)


def test_the_decoder_gives_what_the_readers_give(decoder: MediaDecoder) -> None:
    picture, sound = decoder.decode(files()["checker.png"], RATE), decoder.decode(files()["tone.wav"], RATE)
    assert isinstance(picture, Picture)
    assert isinstance(sound, Sound)
    assert np.array_equal(picture.pixels, checker(112, 84))
    assert np.array_equal(sound.samples, read_sound(files()["tone.wav"], RATE))
    with pytest.raises(MediaRejected, match=r"^image too large: 12000 x 12000"):
        decoder.decode(bomb(12_000, 12_000), RATE)


def test_a_file_that_ends_the_decoder_is_refused_and_the_next_is_read(
    decoder: MediaDecoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoder.start()
    process = decoder._process
    assert process is not None
    process.kill()
    process.wait()
    assert isinstance(decoder.decode(files()["checker.png"], RATE), Picture)
    ask = decoder._ask

    def killed(data: bytes, rate: int) -> tuple[int, int, bytearray]:
        assert decoder._process is not None
        decoder._process.kill()
        return ask(data, rate)

    monkeypatch.setattr(decoder, "_ask", killed)
    with pytest.raises(MediaRejected, match=f"^{UNREADABLE}$"):
        decoder.decode(files()["checker.png"], RATE)
    monkeypatch.undo()
    assert isinstance(decoder.decode(files()["checker.png"], RATE), Picture)
    monkeypatch.setattr(media_decoder, "WALL_SECONDS", 0.1)
    assert decoder._process is not None
    decoder._process.send_signal(signal.SIGSTOP)
    with pytest.raises(MediaRejected, match=f"^{UNREADABLE}$"):
        decoder.decode(files()["checker.png"], RATE)
    monkeypatch.undo()
    assert isinstance(decoder.decode(files()["checker.png"], RATE), Picture)
