"""What a real Ollama answered to pictures and sounds, asked again of one server with the same tiny models."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.golden.allowed import ANSWERS
from tests.seen import MODELS, PAIRS, create, files, files_of
from tests.serving import LOOPBACK, PATIENCE, serving

GO = "{{ range .Messages }}<|im_start|>{{ .Role }}\n{{ .Content }}<|im_end|>\n{{ end }}<|im_start|>assistant\n"
RECORDED = {record["what"]: record for record in json.loads((MODELS / "ollama.json").read_text())}


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
    status, begins = ANSWERS.get(what, (record["status"], None))
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
