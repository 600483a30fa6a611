"""Every recorded creation, done again: the same answers, and the same bytes on the disk."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

import cli.main
from tests.golden.compare import differences
from tests.golden.probes import PROBES, ROUNDED, WEIGHTS, Asked, Probe, Stores, config, digest_of, layers, prepare
from tests.serving import LOOPBACK, PATIENCE, serving

REQUESTS = [probe for probe in PROBES if "request" in probe]
MODELFILES = [probe for probe in PROBES if "request" not in probe]


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Stores:
    stores = Stores(tmp_path_factory.mktemp("probes"))
    stores.renew()
    return stores


@pytest.fixture(scope="module")
def client(stores: Stores) -> Iterator[httpx.Client]:
    with (
        serving(stores.root) as server,
        httpx.Client(base_url=server.url, timeout=PATIENCE, **LOOPBACK) as client,
    ):
        yield client


@pytest.mark.parametrize("probe", REQUESTS, ids=lambda probe: probe["id"])
def test_a_request(client: httpx.Client, stores: Stores, probe: Probe) -> None:
    asked = prepare(client, stores, probe)
    answer = client.post("/api/create", json=asked.request)
    wanted = asked.result
    assert answer.status_code == wanted["status"], answer.text
    if "error" in wanted:
        assert answer.json() == {"error": wanted["error"]}
        assert not stores.path(asked.request["model"]).exists()
        return
    steps = [json.loads(line) for line in answer.text.splitlines()]
    if "lines" in wanted:
        assert [step["status"] for step in steps if "total" not in step] == wanted["lines"]
    check_model(client, stores, asked, stored_name(asked))


@pytest.mark.parametrize("probe", MODELFILES, ids=lambda probe: probe["id"])
def test_a_modelfile(
    client: httpx.Client,
    stores: Stores,
    probe: Probe,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked = prepare(client, stores, probe)
    (tmp_path / "Modelfile").write_bytes(asked.modelfile)
    for name, token in probe.get("files", {}).items():
        os.link(WEIGHTS[token], tmp_path / name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OLLAMA_HOST", str(client.base_url))
    monkeypatch.setattr(sys, "argv", ["pronk", "create", "probe", "-f", "Modelfile", *probe.get("args", [])])
    with pytest.raises(SystemExit) as end:
        cli.main.main()
    wanted = asked.result
    output, errors = capsys.readouterr()
    assert (end.value.code or 0, output) == (wanted["exit"], wanted.get("stdout", "")), errors
    if "error" in wanted:
        assert errors.splitlines()[-1] == f"Error: {wanted['error']}"
        assert not stores.path("probe").exists()
    else:
        check_model(client, stores, asked, "probe")


def stored_name(asked: Asked) -> str:
    """The name under which a model is stored: an earlier spelling stays."""
    name = str(asked.request["model"])
    earlier = [str(body["model"]) for body in asked.probe.get("setup", ())]
    return next((known for known in earlier if known.lower() == name.lower()), name)


def check_model(client: httpx.Client, stores: Stores, asked: Asked, name: str) -> None:
    """What is stored and shown is as recorded."""
    wanted = asked.result
    assert config(stores, name) == wanted["config"]
    check_layers(stores, wanted, name)
    for digest in wanted.get("absent_blobs", ()):
        assert not stores.blob(digest).exists()
    if "show" in wanted:
        shown = client.post("/api/show", json={"model": name}).json()
        answers = ({"status": 200, "headers": {}, "json": {"": shape}} for shape in (wanted["show"], shown))
        assert not [line for line in differences(*answers, "exact") if not line.endswith(" extra")]


def check_layers(stores: Stores, wanted: dict[str, Any], name: str) -> None:
    found = layers(stores, name)
    recorded = [{key: value for key, value in layer.items() if key != "text"} for layer in wanted["layers"]]
    for layer, other in zip(found, recorded, strict=True):
        if other["digest"] in ROUNDED:
            other["digest"] = layer["digest"]
        assert layer == other
    for layer in wanted["layers"]:
        if "text" in layer:
            assert stores.blob(layer["digest"]).read_bytes().decode() == layer["text"]
    if "manifest_digest" in wanted and not {layer["digest"] for layer in wanted["layers"]} & ROUNDED:
        assert digest_of(stores.path(name).read_bytes()) == wanted["manifest_digest"]
