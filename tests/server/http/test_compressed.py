"""Request bodies that are compressed."""

import json
import os
from typing import Any

import httpx
import pytest

from engine.api import Delta, Final
from server.http.compressed import _library
from tests.server.fake_engine import FakeEngine

zstd = _library()
BODY = {"model": "t", "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}], "input": "Hi"}
PATHS = ["/v1/responses", "/v1/chat/completions", "/v1/messages", "/api/chat"]


async def post(client: httpx.AsyncClient, path: str, content: bytes, coding: str = "zstd") -> httpx.Response:
    return await client.post(path, content=content, headers={"Content-Encoding": coding})


def text_of(body: dict[str, Any]) -> bytes:
    return json.dumps(body).encode()


@pytest.mark.parametrize("path", PATHS)
async def test_every_api_takes_it(client: httpx.AsyncClient, engine: FakeEngine, path: str) -> None:
    engine.script = [Delta("Hello"), Final(done_reason="stop")]
    answer = await post(client, path, zstd.compress(text_of(BODY)))
    assert answer.status_code == 200
    assert "Hello" in answer.text
    assert (await post(client, path, zstd.compress(text_of(BODY)), "ZSTD")).status_code == 200


async def test_several_frames_are_one_body(client: httpx.AsyncClient, engine: FakeEngine) -> None:
    engine.script = [Delta("Hello"), Final(done_reason="stop")]
    data = text_of(BODY | {"input": os.urandom(40_000).hex()})  # larger than a slice
    answer = await post(client, "/v1/responses", zstd.compress(data[:500]) + zstd.compress(data[500:]))
    assert answer.status_code == 200


@pytest.mark.parametrize(
    "content", [b"{}", zstd.compress(text_of(BODY))[:-9], zstd.compress(text_of(BODY)) + b"{}"], ids=str
)
async def test_what_is_not_zstd_is_refused(client: httpx.AsyncClient, content: bytes) -> None:
    answer = await post(client, "/v1/responses", content)
    assert (answer.status_code, answer.json()["error"]["message"]) == (400, "failed to decompress request body")


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("coding", ["gzip", "br", "zstd, zstd"])
async def test_other_encodings_are_refused(client: httpx.AsyncClient, path: str, coding: str) -> None:
    answer = await post(client, path, b"\x1f\x8b", coding)
    message = f'unsupported Content-Encoding: "{coding}" (must be "zstd")'
    error = answer.json()["error"]
    assert answer.status_code == 415
    assert (error if path == "/api/chat" else error["message"]) == message
    assert path == "/api/chat" or error["type"] == "invalid_request_error"


async def test_an_encoding_that_changes_nothing(client: httpx.AsyncClient, engine: FakeEngine) -> None:
    engine.script = [Delta("Hello"), Final(done_reason="stop")]
    assert (await post(client, "/api/chat", text_of(BODY), "identity")).status_code == 200


async def test_a_frame_with_a_large_window_is_refused(client: httpx.AsyncClient) -> None:
    options = {zstd.CompressionParameter.window_log: 27, zstd.CompressionParameter.content_size_flag: 0}
    compressor = zstd.ZstdCompressor(options=options)
    frame = compressor.compress(b" " * (1 << 20)) + compressor.flush()
    answer = await post(client, "/v1/responses", frame)
    assert (answer.status_code, answer.json()["error"]["message"]) == (400, "failed to decompress request body")


async def test_the_limit_is_one_of_the_content(client: httpx.AsyncClient) -> None:
    bomb = zstd.compress(b" " * (1 << 30))
    assert len(bomb) < 1 << 20
    answer = await post(client, "/v1/responses", bomb)
    assert answer.status_code == 413


async def test_an_empty_body(client: httpx.AsyncClient) -> None:
    answer = await post(client, "/api/chat", b"")
    assert (answer.status_code, answer.json()) == (400, {"error": "missing request body"})
