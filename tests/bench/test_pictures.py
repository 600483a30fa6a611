"""The scenario of pictures on a real server, and how both dialects show them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
import uvloop

from bench.api import Api
from bench.client import Client
from bench.dialects import LLAMA_SERVER, OLLAMA, Dialect, Request
from bench.models import SIGHT, provide
from bench.pictures import PICTURE, Pictures, picture_server, whole_answer
from bench.servers import our_target
from bench.serving import LocalServer


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    with picture_server(tmp_path_factory.mktemp("store")) as server:
        provide(Api(server.url), [SIGHT])
        yield server


@pytest.mark.parametrize("dialect", [OLLAMA, LLAMA_SERVER], ids=lambda dialect: dialect.name)
def test_a_dialect_shows_pictures(server: LocalServer, dialect: Dialect) -> None:
    client = Client(server.url, SIGHT.name, dialect)
    asked = (("user", "What is on the left?"),)
    seen, unseen = (
        uvloop.run(whole_answer(client, Request(8, messages=asked, seed=1, pictures=pictures))).text
        for pictures in ((PICTURE,), ())
    )
    assert "red" in seen
    assert "red" not in unseen


def test_all_is_measured_and_a_picture_is_encoded_once_for_all_chats(server: LocalServer) -> None:
    pictures = Pictures()
    pictures.before = 40
    target = our_target(server, SIGHT)
    values = pictures.measure(target, 0)
    assert sorted(values) == sorted(measure.name for measure in pictures.measures)
    assert min(values.values()) > 0
    assert values[pictures.measures[-1].name] == 1
    others = pictures.measure(replace(target, encodes=None), 1)
    assert sorted(others) == sorted(measure.name for measure in pictures.measures[:-1])
