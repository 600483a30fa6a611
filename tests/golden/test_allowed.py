"""The list of differences that are allowed is short, and what recordings say of themselves is on it."""

from __future__ import annotations

import json
from fnmatch import fnmatchcase
from typing import Any

from tests.golden.allowed import ALLOWED, ANSWERS, MOST
from tests.golden.test_vision import RECORDED
from tests.serving import ROOT

FOLDER = ROOT / "tests" / "data" / "golden"
JOINED = "chunks joined"
"""A note that tells of no difference: where chunks are cut is free."""


def recordings(name: str) -> list[dict[str, Any]]:
    content = json.loads((FOLDER / name).read_text(encoding="utf-8"))
    return list(content["cases"] if isinstance(content, dict) else content)


def test_the_list_is_short_and_each_entry_has_a_reason() -> None:
    assert len(ALLOWED) <= MOST
    for each in ALLOWED:
        assert each.reason
        assert each.keys or each.left_out or each.recorded or each.answers, each.difference
    assert len({each.difference for each in ALLOWED}) == len(ALLOWED)


def test_recordings_that_were_changed_are_on_the_list() -> None:
    patterns = [pattern for each in ALLOWED for pattern in each.recorded]
    names = [
        f"{name}:{case['id']}" for name in sorted({p.partition(":")[0] for p in patterns}) for case in recordings(name)
    ]
    for pattern in patterns:
        assert any(fnmatchcase(name, pattern) for name in names), pattern
    for name in ("http.json", "prompts.json", "create-probes.json"):
        for case in recordings(name):
            changed = "ollama_status" in json.dumps(case).replace('"ollama_status": null', "")
            if changed or (name != "create-probes.json" and case["note"] not in ("", JOINED)):
                own = [p for p in patterns if fnmatchcase(f"{name}:{case['id']}", p) and p != f"{name}:*"]
                assert own, case["id"]


def test_answers_on_the_list_were_recorded() -> None:
    assert ANSWERS.keys() <= RECORDED.keys()
