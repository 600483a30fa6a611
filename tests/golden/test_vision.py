"""What a real Ollama answered to pictures and sounds, asked again of one server with the same tiny models."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.seen import MODELS, PAIRS, create, files, files_of
from tests.serving import LOOPBACK, PATIENCE, serving

GO = "{{ range .Messages }}<|im_start|>{{ .Role }}\n{{ .Content }}<|im_end|>\n{{ end }}<|im_start|>assistant\n"
RECORDED = {record["what"]: record for record in json.loads((MODELS / "ollama.json").read_text())}
BETTER: dict[str, tuple[int, str]] = {
    "file animated.webp": (200, "R%;IR%$in"),
    "file exif6.jpg": (200, ""),
    "file alpha.png": (200, ""),
    "file truncated.jpg": (400, "Failed to load image or audio file"),
    "file checker.ppm": (400, "Failed to load image or audio file"),
    "file thin.png": (400, "image has an extreme shape: 1000 x 2 pixels, one side may be at most 200 times as long as"),
    "chat file exif6.jpg": (200, ""),
    "gemma3wide: 784 tokens that see one another": (200, "I+an%u-D)"),  # as with `num_batch` 1024
}
"""Where Pronk is better on purpose: the status, and how the answer begins."""

HINT = "input is not supported - hint: if this is unexpected, you may need to provide the mmproj"
BETTER |= {f"file {name}.wav": (400, f"audio {HINT}") for name in ("tone", "tone880")}
BETTER |= {"chat file tone.wav": (400, f"audio {HINT}"), "openai input_audio": (400, f"audio {HINT}")}
MULTIPART = ("openai image_url", "openai image first", "openai no type", "openai audio")  # are one message, not several
BETTER |= dict.fromkeys(MULTIPART, (200, ""))
BETTER |= {"blind chat": (400, f"image {HINT}")}
BETTER |= {f"ultravox{kind} with an image": (400, f"image {HINT}") for kind in ("", " chat")}


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    with (
        serving(tmp_path_factory.mktemp("vision") / "models") as server,
        httpx.Client(base_url=server.url, timeout=PATIENCE, **LOOPBACK) as client,
    ):
        for name in PAIRS:
            create(client, name, files_of(name))
        create(client, "llava-go", files_of("llava"), template=GO)
        create(client, "blind-go", files_of("blind"), template=GO)
        yield client


def with_files(value: Any) -> Any:
    """A request with the files that it names."""
    if isinstance(value, dict):
        return {key: with_files(item) for key, item in value.items()}
    if isinstance(value, list):
        return [with_files(item) for item in value]
    if not isinstance(value, str):
        return value
    if value == "<15000 characters>":
        return "word " * 3000
    return re.sub(
        "<([a-z0-9_.]+)>", lambda m: base64.b64encode(files()[m[1]]).decode() if m[1] in files() else m[0], value
    )


def said(answer: dict[str, Any]) -> str:
    """The text of an answer of any dialect, or of its error."""
    match answer:
        case {"error": {"message": str(text)}} | {"error": str(text)} | {"response": str(text)}:
            return text
        case {"message": {"content": str(text)}} | {"choices": [{"message": {"content": str(text)}}]}:
            return text
        case {"output": [{"content": [{"text": str(text)}]}]} | {"content": [{"text": str(text)}]}:
            return text
    raise AssertionError(answer)


def rendered(answer: dict[str, Any]) -> tuple[str, int]:
    """The prompt, whose places have numbers of their own in chats of the original, and its images."""
    info = answer["_debug_info"]
    numbers = iter(range(99))
    text = re.sub("<__ollama_media_[0-9a-f]+__>", lambda _: f"[img-{next(numbers)}]", info["rendered_template"])
    return text, info.get("image_count", 0)


def is_answer(record: dict[str, Any]) -> bool:
    return not record["path"].endswith("/show")


@pytest.mark.parametrize("what", [what for what, record in RECORDED.items() if is_answer(record)])
def test_as_recorded(client: httpx.Client, what: str) -> None:
    record = RECORDED[what]
    answer = client.post(record["path"], json=with_files(record["request"]))
    status, begins = BETTER.get(what, (record["status"], None))
    assert answer.status_code == status, answer.text
    wanted, given = record["answer"], answer.json()
    if "_debug_info" in wanted:
        assert rendered(given) == rendered(wanted)
        return
    if begins is None:
        assert said(given) == said(wanted)
    else:
        assert said(given).startswith(begins)
    if begins is None and status == 200:
        for name in ("prompt_eval_count", "eval_count", "done_reason"):
            assert given.get(name) == wanted.get(name)


@pytest.mark.parametrize("what", [what for what, record in RECORDED.items() if not is_answer(record)])
def test_models_as_shown(client: httpx.Client, what: str) -> None:
    record = RECORDED[what]
    given = client.post("/api/show", json=record["request"]).json()
    assert sorted(given["capabilities"]) == sorted(record["answer"]["capabilities"])
    assert given.get("projector_info") == record["answer"]["projector_info"]
