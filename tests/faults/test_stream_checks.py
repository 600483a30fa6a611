"""What R21 takes for a violation, and how the process answers that writes from a script."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.faults.scripted_runner import CLOSING, OPENING, pieces
from tests.faults.stream_checks import APIS, Violation, events, ndjson
from tests.serving import LOOPBACK, serving

TEXT = "é\u2028👩\u200d👧 中\r\n\ndata: [DONE] 文"
READ = {api.path: api.read for api in APIS}


def chunk(text: str, *, done: bool = False) -> bytes:
    return json.dumps({"response": text, "done": done}, ensure_ascii=False).encode() + b"\n"


def event(**fields: Any) -> bytes:
    return b"data: " + json.dumps(fields).encode() + b"\n\n"


def choice(text: str, reason: str | None = None) -> bytes:
    return event(choices=[{"text": text, "finish_reason": reason}])


DONE = b"data: [DONE]\n\n"


def test_good_streams() -> None:
    assert READ["/api/generate"](chunk("é") + chunk("中") + chunk("", done=True)) == "é中"
    assert READ["/v1/completions"](choice("é") + choice("中", "stop") + DONE) == "é中"


@pytest.mark.parametrize(
    "body",
    [
        chunk("a"),
        chunk("a", done=True) + chunk("b", done=True),
        chunk("a", done=True) + chunk("b"),
        chunk("a") + chunk("", done=True).rstrip(b"\n"),
        chunk("a") + b"\n" + chunk("", done=True),
        "é".encode()[:1] + chunk("", done=True),
        b'{"response":"\\ud83d","done":false}\n' + chunk("", done=True),
        chunk("é").replace("é".encode(), "é".encode()[:1]) + chunk("", done=True),
        b'{"error":"no"}\n',
        b'["a"]\n',
    ],
)
def test_bad_lines(body: bytes) -> None:
    with pytest.raises(Violation):
        READ["/api/generate"](body)


@pytest.mark.parametrize(
    "body",
    [
        choice("a", "stop"),
        choice("a", "stop") + DONE + DONE,
        choice("a", "stop") + DONE.rstrip(b"\n"),
        DONE + choice("a", "stop"),
        choice("a") + DONE,
        choice("a", "stop") + choice("b", "stop") + DONE,
        choice("a", "stop") + b": ping\n\n" + DONE,
        b'data: {"choices":\n\n' + DONE,
    ],
)
def test_bad_events(body: bytes) -> None:
    with pytest.raises(Violation):
        READ["/v1/completions"](body)


def test_lines_end_with_line_feeds_alone() -> None:
    assert len(ndjson(chunk("\u2028\u2029\x85") + chunk("", done=True))) == 2
    assert len(events(b"event: a\n" + b'data: {"text":"\xe2\x80\xa8"}\n\n')) == 1


def test_pieces_are_cut_between_characters_alone() -> None:
    cut = list(pieces(f"You say {OPENING}{TEXT}{CLOSING} to me."))
    assert "".join(cut) == TEXT
    assert len(cut) > 1


@pytest.mark.parametrize("api", APIS, ids=lambda api: api.path)
def test_a_script_is_written_in_every_api(scripted_url: str, api: Any) -> None:
    body = {"model": "tinychat", **api.ask(f"{OPENING}{TEXT}{CLOSING}")}
    answer = httpx.post(f"{scripted_url}{api.path}", json=body, **LOOPBACK)
    assert api.read(answer.content) == TEXT


@pytest.fixture(scope="module")
def scripted_url(tmp_path_factory: pytest.TempPathFactory) -> Any:
    store: Path = tmp_path_factory.mktemp("scripted") / "models"
    with serving(store, module="tests.faults.scripted", new=True) as served:
        yield served.url
