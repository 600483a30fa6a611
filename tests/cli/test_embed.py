"""The verb embed, and run on a model that only embeds."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import numpy as np
import pytest

from tests.cli.conftest import Pronk
from tests.engine.berts import tiny_bert
from tests.golden.probes import digest_of
from tests.serving import LOOPBACK, Served


@pytest.fixture
def bert(server: Served, tmp_path: Path) -> str:
    """A model that only embeds."""
    weights = tiny_bert(tmp_path / "bert.gguf").read_bytes()
    with httpx.Client(base_url=server.url, **LOOPBACK) as client:
        client.post(f"/api/blobs/{digest_of(weights)}", content=weights).raise_for_status()
        body = {"model": "bert", "files": {"bert.gguf": digest_of(weights)}, "stream": False}
        client.post("/api/create", json=body).raise_for_status()
    return "bert"


def vectors(output: str) -> list[list[float]]:
    return [json.loads(line) for line in output.splitlines()]


def alike(some: list[list[float]], others: list[list[float]]) -> bool:
    return bool(np.allclose(some, others, atol=1e-4))


def test_texts_and_lines(pronk: Pronk, bert: str) -> None:
    found = vectors(pronk.succeed("embed", bert, "the dog", "the fox"))
    assert [len(vector) for vector in found] == [64, 64]
    assert alike(vectors(pronk.succeed("embed", bert, stdin="the dog\nthe fox\n")), found)
    (cut,) = vectors(pronk.succeed("embed", bert, "the dog", "--dimensions", "4"))
    assert len(cut) == 4
    assert len(vectors(pronk.succeed("embed", "tinychat", "the dog"))[0]) == 256


def test_bytes_that_are_not_utf_8(pronk: Pronk, bert: str) -> None:
    expected = vectors(pronk.succeed("embed", bert, "the \ufffd\ufffd"))
    assert alike(vectors(pronk.succeed("embed", bert, "the \udce2\udc82")), expected)
    assert alike(vectors(pronk.succeed("embed", bert, stdin="the \udce2\udc82\n")), expected)


def test_run(pronk: Pronk, bert: str) -> None:
    (wanted,) = vectors(pronk.succeed("embed", bert, "the dog"))
    assert alike(vectors(pronk.succeed("run", bert, "the", "dog")), [wanted])
    assert alike(vectors(pronk.succeed("run", bert, stdin="the dog")), [wanted])
    assert len(vectors(pronk.succeed("run", bert, "the dog", "--dimensions", "4"))[0]) == 4


def test_refusals(pronk: Pronk, bert: str) -> None:
    usage = 'Error: embedding models require input text. Usage: pronk run bert "your text here"\n'
    assert pronk.fail("run", bert) == usage
    assert pronk.fail("embed", bert) == usage
    too_long = "Error: the input length exceeds the context length\n"
    assert pronk.fail("run", bert, "the dog " * 100, "--truncate=false") == too_long
    assert pronk.fail("embed", bert, "the dog " * 100, "--truncate=false") == too_long
    assert pronk.fail("embed", "zz", "a") == 'Error: model "zz" not found, try pulling it first\n'
