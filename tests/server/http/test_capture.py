"""Requests kept as files (OLLAMA_DEBUG_LOG_REQUESTS), and sent again by their scripts."""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from server.http.capture import Capture, Capturing
from server.http.compressed import _library
from tests.disks import small_disk
from tests.outside import needs
from tests.server.conftest import Live
from tests.serving import GREEDY, LOOPBACK, PATIENCE, Served, serving

KEY, COOKIE, QUERY = "sesame-open-you-now", "walrus-cookie", "walrus-query"
HEADERS = {"Authorization": f"Bearer {KEY}", "Cookie": f"session={COOKIE}", "Content-Type": "application/json"}
MESSAGES = [{"role": "user", "content": "Say it's $(date) `again`"}]
CHAT = {"model": "tinychat", "messages": MESSAGES, "options": GREEDY | {"num_predict": 9}, "stream": False}
OPENAI = {"model": "tinychat", "messages": MESSAGES, "temperature": 0, "seed": 1, "max_tokens": 9}
CASES = [
    ("/api/generate", {"model": "tinychat", "prompt": "Hello"} | {name: CHAT[name] for name in ("options", "stream")}),
    ("/api/chat", CHAT),
    ("/v1/chat/completions", OPENAI),
    ("/v1/completions", OPENAI | {"prompt": "Hello"}),
    ("/v1/responses", OPENAI | {"input": "Hello", "max_output_tokens": 9}),
    ("/v1/messages", OPENAI),
]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("capture")
    environ: dict[str, Any] = {"PRONK_API_KEYS": KEY, "PRONK_LOG_FORMAT": "json", "TMPDIR": str(folder)}
    with serving(folder / "models", OLLAMA_DEBUG_LOG_REQUESTS="1", **environ) as served:
        yield served


def post(served: Served, path: str, content: bytes, **headers: str) -> httpx.Response:
    named = HEADERS | {name.replace("_", "-"): value for name, value in headers.items()}
    sent = {name.encode(): value.encode("latin-1") for name, value in named.items()}
    return httpx.post(served.url + path, content=content, headers=sent, timeout=PATIENCE, **LOOPBACK)


def lines(served: Served, message: str) -> list[dict[str, Any]]:
    text = served.log.read_text()
    return [line for line in map(json.loads, text[: text.rfind("\n") + 1].splitlines()) if line["message"] == message]


def captured(served: Served, request_id: str) -> tuple[Path, str]:
    """The body of a request, and the command that sends it again."""
    deadline = time.monotonic() + PATIENCE
    while True:
        found = [line for line in lines(served, "request captured") if line["request_id"] == request_id]
        if found or time.monotonic() > deadline:
            (line,) = found
            return Path(line["body"]), line["replay"]
        time.sleep(0.02)


def replay(command: str, **environ: str) -> bytes:
    needs("curl")
    env = {"PATH": os.environ["PATH"], "NO_PROXY": "*"} | environ
    return subprocess.run(["sh", "-c", command], env=env, cwd="/", capture_output=True, check=True).stdout


def same(answer: bytes) -> Any:
    """What of an answer is the same each time."""

    def without_times(value: Any) -> Any:
        if isinstance(value, dict):
            changing = re.compile(r"id|created.*|completed_at|.*_duration")
            return {name: without_times(item) for name, item in value.items() if not changing.fullmatch(name)}
        return [without_times(item) for item in value] if isinstance(value, list) else value

    return without_times(json.loads(answer))


@pytest.mark.parametrize(("path", "body"), CASES, ids=[path for path, _ in CASES])
def test_a_script_gets_the_same_answer(served: Served, path: str, body: dict[str, Any]) -> None:
    content, request_id = json.dumps(body, indent=1).encode(), f"again{path.replace('/', '-')}"
    answer = post(served, f"{path}?beta={QUERY}", content, X_Request_Id=request_id)
    assert answer.status_code == 200, answer.text
    file, command = captured(served, request_id)
    assert file.read_bytes() == content
    assert path.replace("/", "_")[1:] + "_body.json" in file.name
    again = same(replay(command, OLLAMA_API_KEY=KEY))
    if path in ("/api/chat", "/api/generate"):  # the second time, more of the prompt is cached
        assert again == same(answer.content)
    else:
        ours, theirs = (json.dumps({**value, "usage": None}) for value in (again, same(answer.content)))
        assert ours == theirs
    assert b"key" in replay(command)  # a script has none


def test_a_compressed_body_is_kept_as_it_was_sent(served: Served) -> None:
    content = _library().compress(json.dumps(CHAT).encode())
    hostile = {"Content_Type": "x'; touch here; $(touch here) `touch here` \xff"}
    answer = post(served, "/api/chat", content, Content_Encoding="zstd", X_Request_Id="zstd", **hostile)
    assert answer.status_code == 200
    file, command = captured(served, "zstd")
    assert (file.read_bytes(), file.suffix) == (content, ".zst")
    assert same(replay(f"cd {file.parent}; {command}", OLLAMA_API_KEY=KEY)) == same(answer.content)
    assert not (file.parent / "here").exists()


def test_a_body_that_is_no_json_is_kept(served: Served) -> None:
    assert post(served, "/api/chat", b'{"model":\xff', X_Request_Id="no-json").status_code == 400
    assert captured(served, "no-json")[0].read_bytes() == b'{"model":\xff'


def test_only_the_owner_may_read_and_no_secret_is_there(served: Served) -> None:
    post(served, "/v1/messages", json.dumps(OPENAI).encode(), X_Request_Id="secret", X_Api_Key=KEY)
    folder = captured(served, "secret")[0].parent
    (line,) = lines(served, "request debug logging enabled, prompts are kept")
    assert line["folder"] == str(folder)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    files = list(folder.iterdir())
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    texts = b"".join(file.read_bytes() for file in files)
    assert b"application/json" in texts
    assert not [secret for secret in (KEY, COOKIE, QUERY) if secret.encode() in texts]


def test_what_is_not_captured(served: Served) -> None:
    embed = json.dumps({"model": "tinychat", "input": "Hello"}).encode()
    assert post(served, "/api/embed", embed, X_Request_Id="none-embed").status_code == 200
    assert post(served, "/api/chat", b"{}", X_Request_Id="none-key", Authorization="Bearer x").status_code == 401
    post(served, "/api/chat", b"{}", X_Request_Id="last")
    captured(served, "last")
    ids = {line["request_id"] for line in lines(served, "request captured")}
    assert not {"none-embed", "none-key"} & ids


def test_a_full_disk_costs_one_warning(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 64 << 10) as disk:
        environ: dict[str, Any] = {"PRONK_LOG_FORMAT": "json", "TMPDIR": str(disk), "OLLAMA_DEBUG_LOG_REQUESTS": "1"}
        with serving(tmp_path / "models", **environ) as served:
            content = json.dumps(CHAT | {"ignored": "x" * (100 << 10)}).encode()
            answers = [post(served, "/api/chat", content) for _ in range(3)]
            assert [answer.status_code for answer in answers] == [200] * 3
            small = post(served, "/api/chat", json.dumps(CHAT).encode(), X_Request_Id="small")
            assert small.status_code == 200
            assert captured(served, "small")[0].is_file()  # nothing is left of those that did not fit
            told = lines(served, "requests cannot be captured: No space left on device; this is told once")
            assert [line["level"] for line in told] == ["WARNING"]


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of temporary files of this process."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


async def test_no_folder_is_made_unless_asked_for(temporary: Path, live: Live) -> None:
    async with httpx.AsyncClient(base_url=live.url, **LOOPBACK) as client:
        assert (await client.post("/api/chat", json={"model": "t", "messages": MESSAGES})).status_code == 200
    assert not [name for name in os.listdir(temporary) if name.startswith("ollama-request-logs-")]


async def _echo(scope: Scope, receive: Receive, send: Send) -> None:
    size, more = 0, True
    while more:
        message = await receive()
        size, more = size + len(message["body"]), message["more_body"]
    await PlainTextResponse(str(size))(scope, receive, send)


async def files_after(sizes: list[int], **bounds: Any) -> list[int]:
    """The sizes of the bodies that are kept, the oldest first, of requests with bodies of these sizes."""
    capture = Capture(**bounds)
    async with capture.opened():
        transport = httpx.ASGITransport(Capturing(_echo, capture))
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            for size in sizes:
                assert (await client.post("/api/chat", content=bytes(size))).text == str(size)
    assert capture.folder is not None
    files = sorted(capture.folder.glob("*_body.json")) if capture.folder.exists() else []
    assert len(files) == (len(list(capture.folder.iterdir())) // 2 if files else 0)
    return [file.stat().st_size for file in files]


async def test_the_folder_has_bounds(temporary: Path) -> None:
    assert await files_after([1, 2, 3, 4, 5], most_requests=3) == [3, 4, 5]
    assert await files_after([90_000, 1, 50_000, 2], most_bytes=100_000) == [1, 50_000, 2]
    assert await files_after([1, 200_000, 2], most_bytes=100_000) == [1, 2]
    assert await files_after([1, 200_000, 2], most_held=100_000) == [1, 2]
    folders = os.listdir(temporary)
    assert await files_after([]) == []
    assert os.listdir(temporary) == folders  # an empty one does not stay


async def test_a_disk_that_hangs_does_not_hold_up_the_end(
    temporary: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    goes_on = threading.Event()
    monkeypatch.setattr("server.http.capture._write_new", lambda path, data: goes_on.wait())
    assert await files_after([1, 2], last_writes=0.05) == []
    goes_on.set()
    [told] = [record for record in caplog.records if record.levelname == "WARNING"]
    assert told.getMessage() == "requests are not captured: the disk is too slow"
