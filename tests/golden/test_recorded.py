"""Every recorded case that this server covers, asked in order of one server process.

PRONK_GOLDEN=FILE runs another recording of the same form.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from pathlib import Path

import httpx
import pytest

import registry.bundled
from tests.golden.compare import Answer, Case, ask, differences
from tests.serving import ROOT, serving

RECORDING = Path(os.environ.get("PRONK_GOLDEN", ROOT / "tests" / "data" / "golden" / "http.json"))
WEIGHTS = Path(registry.bundled.__file__).parent / "tinychat.gguf"
START = "create-tinychat"
NOT_YET = re.compile(
    "|".join(
        [
            "create-|show-(go|msgs|quant|system-override)|delete-name",  # making models, and what was made of them
            "chat-go|gen-context|gen-debug|gen-template",  # Go templates
            "chat-tools|tools",
            "gen-format|chat-format",
            ".*logprobs",
            ".*suffix",
            "embed",
            "v1-(chat|completions|embeddings|responses)",
            "messages",
        ]
    )
)
SLOWEST = 300  # seconds that one answer may take
CASES: list[Case] = json.loads(RECORDING.read_text())


def covered(case: Case) -> bool:
    """Whether this server should answer the case as recorded."""
    return not NOT_YET.match(case["id"])


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Answer]:
    """The answers to all covered cases. Later ones build on earlier ones, so all are asked, whatever is looked at."""
    store = tmp_path_factory.mktemp("golden") / "models"
    weights = WEIGHTS.read_bytes()
    digest = f"sha256:{hashlib.sha256(weights).hexdigest()}"
    substitutions = {"{STORE}": str(store), "{GGUF}": digest}
    found = {}
    with (
        serving(store, OLLAMA_KEEP_ALIVE="30m") as server,
        httpx.Client(base_url=server.url, timeout=SLOWEST, trust_env=False) as client,
    ):
        client.post(f"/api/blobs/{digest}", content=weights).raise_for_status()
        for case in CASES:
            if case["id"] == START:  # the model that was made there is the one that comes with the program here
                client.post("/api/pull", json={"model": "tinychat", "stream": False}).raise_for_status()
            elif covered(case):
                found[case["id"]] = ask(client, case, substitutions)
    return found


@pytest.mark.parametrize("case", [case for case in CASES if covered(case)], ids=lambda case: case["id"])
def test_as_recorded(case: Case, answers: dict[str, Answer]) -> None:
    assert not differences(case["response"], answers[case["id"]], case["cmp"])


def test_most_of_the_recording_is_covered() -> None:
    assert "PRONK_GOLDEN" in os.environ or sum(map(covered, CASES)) > 90
