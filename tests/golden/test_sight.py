"""The bundled model that sees, by HTTP: what it says of pictures, and what bad files do to it, which is nothing."""

from __future__ import annotations

import base64
import json
import random
import socket
import struct
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from tests.seen import MODELS, MP3, Pixels, bomb, checker, create, files, files_of, flac, saved, tone, wav
from tests.serving import LOOPBACK, PATIENCE, ROOT, Served, serving

SEEN = json.loads((MODELS / "sight.json").read_text())
COLOURS = {
    "red": (220, 30, 30),
    "green": (30, 170, 50),
    "blue": (40, 70, 220),
    "yellow": (235, 215, 40),
    "purple": (140, 50, 170),
    "orange": (240, 140, 30),
    "white": (245, 245, 245),
    "black": (20, 20, 20),
}
GREEDY = {"temperature": 0, "repeat_penalty": 1.0, "num_predict": 12}
UNREADABLE = "Failed to load image or audio file"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(tmp_path_factory.mktemp("sight") / "models", OLLAMA_DEBUG="1", OLLAMA_NUM_PARALLEL="2") as server:
        yield server


@pytest.fixture(scope="module")
def client(served: Served) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=served.url, timeout=PATIENCE, **LOOPBACK) as client:
        create(client, "hears", files_of("ultravox"))
        create(client, "qwen", files_of("qwen2vl"))
        yield client


def draw(shapes: Sequence[Sequence[Any]], ground: Sequence[int]) -> Pixels:
    """What `provenance/sight/data.py` draws, eight times as large."""
    sys.path.insert(0, str(ROOT / "registry" / "bundled" / "provenance" / "sight"))
    try:
        from data import draw as drawn
    finally:
        del sys.path[0]
    return np.kron(drawn([tuple(shape) for shape in shapes], tuple(ground)), np.ones((8, 8, 1), np.uint8))


def encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


def ask(client: httpx.Client, question: str, *pictures: bytes, model: str = "sight", **more: Any) -> httpx.Response:
    body = {"model": model, "prompt": question, "images": list(map(encoded, pictures)), "stream": False}
    return client.post("/api/generate", json=body | {"options": GREEDY} | more)


def colour(name: str, place: tuple[float, float] = (0.5, 0.5)) -> bytes:
    return saved(draw([(name, "circle", *place, 0.3)], (128, 128, 128)))


def encodes(served: Served) -> int:
    return served.log.read_text().count("media encoded")


def test_all_that_it_sees(client: httpx.Client) -> None:
    wrong = []
    for case in SEEN["cases"]:
        pictures = [saved(draw(shapes, ground)) for shapes, ground in case["shapes"]]
        if case["pictures_first"]:
            answer = ask(client, case["question"], *pictures).json()["response"]
        else:
            message = {"role": "user", "content": case["question"], "images": list(map(encoded, pictures))}
            body = {"model": "sight", "messages": [message], "stream": False, "options": GREEDY}
            answer = client.post("/api/chat", json=body).json()["message"]["content"]
        seen = [name for name in COLOURS if name in answer.lower()]
        wanted = [name for name in COLOURS if name in case["want"].lower()]
        if seen != wanted:
            wrong.append((case["question"], case["want"], answer))
    assert not wrong


def test_the_picture_that_comes_with_it(client: httpx.Client) -> None:
    picture = (ROOT / "registry" / "bundled" / "sight.png").read_bytes()
    assert "red" in ask(client, "What is on the left?", picture).json()["response"]
    assert "blue" in ask(client, "What is on the right?", picture).json()["response"]


def test_pictures_are_upright_and_on_white(client: httpx.Client) -> None:
    two = Image.fromarray(draw([("red", "circle", 0.27, 0.5, 0.2), ("blue", "circle", 0.73, 0.5, 0.2)], (128,) * 3))
    turned = Image.Exif()
    turned[0x0112] = 6  # the left side is the top, once it is turned
    for kind in ("PNG", "JPEG", "WEBP"):
        assert "red" in ask(client, "What is on the left?", saved(two, kind)).json()["response"]
        answer = ask(client, "What is at the top?", saved(two, kind, exif=turned)).json()["response"]
        assert "red" in answer
    clear = Image.fromarray(draw([("blue", "circle", 0.5, 0.5, 0.3)], (128, 128, 128))).convert("RGBA")
    clear.paste((255, 0, 0, 0), (0, 0, 256, 256))  # red, but nothing of it shows
    white = Image.new("RGB", (256, 256), "white")
    seen, expected = (ask(client, "What is this?", saved(image)).json()["response"] for image in (clear, white))
    assert seen == expected


def test_the_same_picture_is_encoded_once(served: Served, client: httpx.Client) -> None:
    picture = colour("green", (0.44, 0.52))
    before = encodes(served)
    threads = [
        threading.Thread(target=ask, args=(client, f"{number}. What color is it?", picture)) for number in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ask(client, "What color is it?", picture).json()["response"] == "Green."
    assert encodes(served) == before + 1


def test_counts_and_what_is_cached(client: httpx.Client) -> None:
    picture = colour("orange")
    bare = ask(client, "What is this?").json()
    first, again = (ask(client, "What is this?", picture).json() for _ in range(2))
    assert first["prompt_eval_count"] == again["prompt_eval_count"] == bare["prompt_eval_count"] + 16
    assert again["prompt_eval_cached_count"] >= 16
    assert first["response"] == again["response"]


def test_contexts_are_never_too_small_and_overflow_is_said(client: httpx.Client) -> None:
    picture = colour("red")
    assert ask(client, "What color is it?", picture, options=GREEDY | {"num_ctx": 64}).json()["response"] == "Red."
    answer = ask(client, "word " * 4000, picture, options=GREEDY | {"num_ctx": 2048})
    assert answer.status_code == 400
    assert "exceeds the available context size (2048 tokens), try increasing it" in answer.json()["error"]
    assert ask(client, "What color is it?", *[picture] * 17).status_code == 400


def wave_head(tag: int, rate: int, bits: int, size: int = 0) -> bytes:
    """The head of a WAV file of one channel, which says that `size` bytes follow."""
    form = (16, tag, 1, rate, rate * bits // 8, bits // 8, bits)
    return struct.pack("<4sI4s4sIHHIIHH4sI", b"RIFF", 0, b"WAVE", b"fmt ", *form, b"data", size)


def hostile() -> Iterator[tuple[bytes, str]]:
    """Bad files without end, each with the model that gets it: broken, cut, lying about their size, or no media."""
    dice = random.Random(7)
    good = [files()[name] for name in ("checker.png", "checker.jpg", "checker.webp", "checker.gif", "checker.bmp")]
    for _ in range(12):
        for data in good:
            cut = data[: dice.randrange(4, len(data) // 2)]
            yield cut, "sight"
    huge = 1 << 31
    for width, height in ((0, 0), (0, 9), (huge, huge), (60_000, 60_000), (12_000, 12_000), (16_385, 1), (4000, 2)):
        yield (bomb(8, 8)[:16] + struct.pack(">II", width, height) + bomb(8, 8)[24:]), "sight"
    yield bomb(12_000, 12_000), "sight"
    for name in ("checker.tiff", "checker.ppm", "garbage", "text", "svg", "heic", "png_head_only", "png_wrong_crc"):
        yield files()[name], "sight"
    yield b"", "sight"
    sound = bytearray(wav(tone(1, 440)))
    for at, value in ((22, 0), (22, 200), (24, 0), (24, 1), (34, 0), (34, 7), (20, 85), (20, 0)):
        broken = bytearray(sound)
        broken[at : at + 2] = struct.pack("<H", value)
        yield bytes(broken), "hears"
    yield wave_head(1, 1, 16), "hears"
    for data in (bytes(sound[:40]), b"RIFF\0\0\0\0WAVE", b"ID3" + bytes(500), b"\xff\xfb" + bytes(500), b"fLaC"):
        yield data, "hears"
    while True:
        yield dice.randbytes(dice.randrange(1, 5000)), dice.choice(["sight", "sight", "hears"])


def test_bad_files_hurt_nobody(served: Served, client: httpx.Client) -> None:
    ask(client, "x", wav(tone(1, 440)), model="hears").raise_for_status()
    red = colour("red")
    assert ask(client, "What color is it?", red).json()["response"] == "Red."
    runners = {process.pid for process in served.runners() if "engine.runner" in process.cmdline()}
    for number, (data, model) in zip(range(100), hostile(), strict=False):
        answer = ask(client, f"{number}", data, model=model)
        assert answer.status_code == 400, (number, data[:40], answer.text)
        assert f"/{ROOT.name}" not in answer.json()["error"]
        assert "/" not in answer.json()["error"]
        if number % 10 == 9:
            assert ask(client, "What color is it?", red).json()["response"] == "Red."
            assert ask(client, "x", wav(tone(1, 440)), model="hears").status_code == 200
    assert runners <= {process.pid for process in served.runners()}, "a process has ended"


def test_what_is_no_sound_is_not_called_a_picture(client: httpx.Client) -> None:
    speech = b"\0\0\0\x1cftypM4A \0\0\0\0M4A isom" + bytes(200)
    for data, message in (
        (speech, UNREADABLE),
        (b"OggS" + bytes(200), UNREADABLE),
        (files()["heic"], UNREADABLE),
        *(
            (files()[f"checker.{kind}"], "image input is not supported")
            for kind in ("png", "jpg", "webp", "gif", "bmp")
        ),
    ):
        assert ask(client, "x", data, model="hears").json()["error"].startswith(message)
        told = client.post("/v1/audio/transcriptions", data={"model": "hears"}, files={"file": ("a", data)})
        assert (told.status_code, told.json()["error"]["param"]) == (400, "file")
        assert told.json()["error"]["message"].startswith(message)
    assert ask(client, "x", wav(tone(1, 440)), model="hears").status_code == 200


def test_strange_sounds_are_heard(client: httpx.Client) -> None:
    one_sample, nan = wav(tone(1, 440)[:1]), np.full(16000, np.nan, "<f4").tobytes()
    for data in (
        one_sample,
        wave_head(3, 16000, 32, len(nan)) + nan,
        wav(tone(1, 440), 44100),
        wav(tone(0.5, 440), 8000),
    ):
        answer = ask(client, "x", data, model="hears")
        assert answer.status_code == 200, answer.text


def compressed(hostile: str) -> bytes:
    """A FLAC or MP3 that is bad in some way."""
    samples = (tone(1, 440) * 32767).astype(np.int16)
    match hostile:
        case "cut in its head":
            return flac([samples])[:60]
        case "no frame that is whole":
            return MP3[:100]
        case "absurd rate":
            return flac([samples], rate=655_350)
        case "no rate":
            return flac([samples], rate=0)
        case "five hours in some bytes":
            return flac([65_535] * 2200, rate=8000)
        case "told to be without end":
            return flac([], told=(1 << 36) - 1)
        case "a tag without end":
            return b"ID3\x04\0\0\x7f\x7f\x7f\x7f" + MP3
        case _:
            return b"fLaC" + random.Random(hostile).randbytes(5000)


@pytest.mark.parametrize(
    "hostile",
    [
        "cut in its head",
        "no frame that is whole",
        "absurd rate",
        "no rate",
        "five hours in some bytes",
        "told to be without end",
        "a tag without end",
        "noise",
    ],
)
def test_a_bad_mp3_or_flac_hurts_nobody(client: httpx.Client, hostile: str) -> None:
    pytest.importorskip("miniaudio")
    answer = ask(client, "x", compressed(hostile), model="hears")
    assert answer.status_code == 400
    assert answer.json()["error"].startswith(("Failed to load", "unsupported audio format", "audio too long: at most"))
    assert ask(client, "x", MP3, model="hears").status_code == 200


def test_mp3_and_flac_are_heard_in_every_api(client: httpx.Client) -> None:
    pytest.importorskip("miniaudio")
    samples = (tone(1, 440) * 32767).astype(np.int16)
    wave, same = wav(tone(1, 440)), flac([samples[:8000], samples[8000:]])
    heard = [ask(client, "What?", data, model="hears").json() for data in (wave, same, MP3)]
    assert heard[0]["response"] == heard[1]["response"]
    assert len({answer["prompt_eval_count"] for answer in heard}) == 1
    for data, name in ((wave, "wav"), (MP3, "mp3"), (same, "flac")):
        part = {"type": "input_audio", "input_audio": {"data": encoded(data), "format": name}}
        body = {"model": "hears", "messages": [{"role": "user", "content": [part]}], "max_tokens": 4}
        assert client.post("/v1/chat/completions", json=body).status_code == 200
        told = client.post("/v1/audio/transcriptions", data={"model": "hears"}, files={"file": (f"a.{name}", data)})
        assert told.status_code == 200, told.text


def test_an_abandoned_picture_makes_room_for_the_next(served: Served, client: httpx.Client) -> None:
    pictures = [encoded(saved(checker(900 + 30 * n, 900))) for n in range(3)]
    options = GREEDY | {"num_ctx": 4096}  # all that the model was trained for, with room for these three
    ask(client, "x", files()["checker.png"], model="qwen", options=options).raise_for_status()
    before = encodes(served)
    body = json.dumps({"model": "qwen", "prompt": "x", "images": pictures, "options": options}).encode()
    with socket.create_connection((client.base_url.host, client.base_url.port)) as sock:
        head = f"POST /api/generate HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
        sock.sendall(head.encode() + body)
        deadline = time.monotonic() + PATIENCE
        while encodes(served) == before and time.monotonic() < deadline:
            time.sleep(0.01)
    assert encodes(served) > before, served.log.read_text()
    answer = ask(client, "What is this?", files()["gradient.png"], model="qwen", options=options)
    assert answer.status_code == 200
    assert encodes(served) - before - 1 < len(pictures)  # one is the answer's


def test_counts_are_those_of_the_answer(client: httpx.Client) -> None:
    source = {"type": "base64", "media_type": "image/png", "data": encoded(colour("red"))}
    content = [{"type": "image", "source": source}, {"type": "text", "text": "What is this?"}]
    body = {"model": "sight", "messages": [{"role": "user", "content": content}]}
    counted = client.post("/v1/messages/count_tokens", json=body).json()["input_tokens"]
    answer = client.post("/v1/messages", json=body | {"max_tokens": 8}).json()
    assert counted == answer["usage"]["input_tokens"]
    source["data"] = encoded(b"no picture")
    refused = client.post("/v1/messages/count_tokens", json=body)
    assert (refused.status_code, refused.json()["error"]["message"]) == (400, UNREADABLE)


def test_text_on_a_model_that_sees(client: httpx.Client) -> None:
    assert ask(client, "What is this?").json()["response"] == "I see no picture."
    shown = client.post("/api/show", json={"model": "sight"}).json()
    assert "vision" in shown["capabilities"]
    sizes = {model["name"]: model["size"] for model in client.get("/api/ps").json()["models"]}
    assert 64 << 20 < sizes["sight:latest"] < 192 << 20  # its cache of rows is for what its contexts can hold
