"""Headers of model files that no program has written."""

from __future__ import annotations

from pathlib import Path
from random import Random

from tests.fuzz.trials import Target, Trial, broken
from tests.registry.gguf import files
from tests.registry.gguf.files import MOST, File, entry, read_everything, small_model, tensor, uint32, uint64

_NUMBERS = (0, 1, 2, 3, 4, 7, 8, 9, 12, 13, 31, 32, 64, 255, 1 << 16, 1 << 20, 1 << 22, 1 << 31, 1 << 61, 1 << 63)
_TYPES = (files.UINT8, files.UINT32, files.STRING, files.ARRAY, files.UINT64, files.F32, files.Q8_0)


def headers(folder: Path) -> Target:
    """Reads each through a file in `folder`, which is best in memory: nothing but GGUFError may come of it."""
    good = [data.decode("latin-1") for data in _good()]
    words = [data.decode("latin-1") for data in _words()]
    path = folder / "x.gguf"

    def trial(random: Random) -> Trial:
        data = broken(good, words, random).encode("latin-1")
        return Trial(data, lambda: read_everything(path, data))

    return trial


def _good() -> list[bytes]:
    """Files of all kinds of content, the headers of some longer than what follows."""
    many = [tensor(f"t{number}", (32,), offset=128 * number) for number in range(40)]
    texts = [entry(f"k{number}", files.STRING, files.text("x" * number)) for number in range(40)]
    vocabulary = files.array(files.STRING, 300, b"".join(files.text(str(number)) for number in range(300)))
    return [
        small_model(),
        File(texts, many, bytes(128 * 40)).build(),
        File([entry("tokenizer.ggml.tokens", files.ARRAY, vocabulary)]).build(),
        File(version=2).build(),
    ]


def _words() -> list[bytes]:
    numbers = [*(uint64(number) for number in (*_NUMBERS, MOST, MOST - 7, MOST - 31)), *map(uint32, _TYPES)]
    return [*numbers, b"GGUF", b"general.alignment", files.text("general.alignment"), tensor("a", (32,)), b"\xff\xfe"]
