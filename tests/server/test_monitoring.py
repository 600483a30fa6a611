"""`/healthz` and `/readyz`: what a probe is told."""

from __future__ import annotations

import shutil
from pathlib import Path

import httpx
import pytest

from server.monitoring import unreadable
from server.settings import Settings
from tests.server.fake_engine import FakeEngine
from tests.serving import LOOPBACK, Served


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_a_real_server_is_well(server: Served, path: str) -> None:
    answer = httpx.get(server.url + path, headers={"X-Request-Id": "probe"}, **LOOPBACK)
    assert (answer.status_code, answer.text) == (200, "ok")
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    head = httpx.head(server.url + path, **LOOPBACK)
    assert (head.status_code, head.content, head.headers["content-length"]) == (200, b"", "2")
    assert httpx.post(server.url + path, **LOOPBACK).status_code == 405
    assert httpx.get(server.url + path, headers={"Host": "a b"}, **LOOPBACK).status_code == 400
    lines = [line for line in server.log.read_text().splitlines() if f"path='{path}'" in line]
    assert lines  # those that were refused
    assert not [line for line in lines if "status=200" in line]


async def test_an_engine_at_fault(client: httpx.AsyncClient, engine: FakeEngine) -> None:
    engine.fault = "it computes wrong numbers"
    answer = await client.get("/readyz")
    assert (answer.status_code, answer.text) == (503, engine.fault)
    assert (await client.get("/healthz")).text == "ok"


async def test_a_folder_that_is_gone(client: httpx.AsyncClient, settings: Settings) -> None:
    folder = settings.models
    assert (await client.get("/readyz")).text == "ok"
    shutil.rmtree(folder, ignore_errors=True)
    assert (await client.get("/readyz")).text == "ok"  # it is made when it is needed
    folder.write_text("a file")
    answer = await client.get("/readyz")
    assert (answer.status_code, answer.text) == (503, "the models folder cannot be read: Not a directory")


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    assert unreadable(tmp_path / "models") == ""
    assert unreadable(tmp_path / "no" / "models") == "the models folder is not there"
