"""Our server beside another one, for real, with the smallest numbers of rounds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bench import api
from bench.against import compare_servers
from bench.api import Api
from bench.dialects import LLAMA_SERVER
from bench.endless import make_endless
from bench.models import Q8_0, TINYCHAT, BenchModel
from bench.servers import Server, UnknownServer, find_servers
from bench.serving import LocalServer
from bench.workload import QUICK
from registry.bundled import MODELS
from registry.names import ModelName

ROUNDS = replace(QUICK, tiny=1, traffic=2)


@pytest.fixture
def model(tmp_path: Path) -> BenchModel:
    gguf = tmp_path / "tinychat.gguf"
    gguf.write_bytes(make_endless(MODELS[ModelName.parse("tinychat")].path))
    return replace(TINYCHAT, gguf=gguf, longest=8)


def test_figures_of_two_servers(tmp_path: Path, model: BenchModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "SETTLED", 0.0)
    stores = [tmp_path / "ours", tmp_path / "other"]
    for store in stores:
        store.mkdir()
    with LocalServer(stores[0]) as server:
        Api(server.url).create(model.name, model.gguf)
    with LocalServer(stores[1]) as other:
        figures = list(compare_servers(stores[0], find_servers([other.url]), [model], ROUNDS))
    assert {figure.side for figure in figures} == {"Ollama"}
    assert [(figure.name.partition(", ")[2], figure.phase) for figure in figures] == [
        ("memory of the model's process without a prompt cache", ""),
        ("cold load to first token", ""),
        ("8 streams, tokens/s", "fresh"),
        ("8 streams, CPU of the parent per token", "fresh"),
        ("8 streams, tokens/s", "steady"),
        ("8 streams, CPU of the parent per token", "steady"),
    ]
    assert all(len(figure.ours) == len(figure.other) == 1 for figure in figures)


def test_a_server_without_any_of_the_models_is_refused(tmp_path: Path) -> None:
    server = Server("http://127.0.0.1:1", "llama-server", "", LLAMA_SERVER, None, models=("llama-3",))
    with pytest.raises(UnknownServer, match=r"has none of the models: words-q8_0\.gguf"):
        next(compare_servers(tmp_path, [server], [Q8_0], QUICK))
