"""Every recorded case, asked in order of one server process.

`http.json` has a case of every kind, `prompts.json` how conversations of many shapes are written and answered.
PRONK_GOLDEN=FILE runs another recording of the same form.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import httpx
import pytest

from tests.golden.compare import Answer, Case, ask, differences
from tests.golden.probes import WEIGHTS, digest_of
from tests.serving import LOOPBACK, ROOT, serving

FOLDER = ROOT / "tests" / "data" / "golden"
OTHER = os.environ.get("PRONK_GOLDEN")
RECORDINGS = [Path(OTHER)] if OTHER else [FOLDER / "http.json", FOLDER / "prompts.json"]
SLOWEST = 300  # seconds that one answer may take
CASES: list[Case] = [case for recording in RECORDINGS for case in json.loads(recording.read_text())]


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Answer]:
    """The answers to all cases. Later ones build on earlier ones, so all are asked, whatever is looked at."""
    store = tmp_path_factory.mktemp("golden") / "models"
    substitutions = {"{STORE}": str(store)}
    found = {}
    with (
        serving(store, OLLAMA_KEEP_ALIVE="30m") as server,
        httpx.Client(base_url=server.url, timeout=SLOWEST, **LOOPBACK) as client,
    ):
        for token, path in WEIGHTS.items():
            weights = path.read_bytes()
            substitutions[token] = digest_of(weights)
            client.post(f"/api/blobs/{substitutions[token]}", content=weights).raise_for_status()
        for case in CASES:
            found[case["id"]] = ask(client, case, substitutions)
    return found


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["id"])
def test_as_recorded(case: Case, answers: dict[str, Answer]) -> None:
    assert not differences(case["response"], answers[case["id"]], case["cmp"])
