"""The bench of JSON Schema on a small suite of its own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench import schema


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    groups = [
        {
            "description": "a limit",
            "schema": {"type": "integer", "minimum": 3},
            "tests": [{"data": 3, "valid": True}, {"data": 2, "valid": False}],
        },
        {
            "description": "another limit",
            "schema": {"minLength": 1, "uniqueItems": True},
            "tests": [{"data": 5, "valid": True}, {"data": "", "valid": False}, {"data": [1, 1], "valid": False}],
        },
        {"description": "elsewhere", "schema": {"$ref": "http://localhost:1234/x.json"}, "tests": []},
    ]
    for draft in schema.DRAFTS:
        (tmp_path / "tests" / draft).mkdir(parents=True)
        (tmp_path / "tests" / draft / "minimum.json").write_text(json.dumps(groups))
    (tmp_path / "remotes").mkdir()
    return tmp_path


def test_rows(suite: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    page = suite / "page.md"
    page.write_text(f"before\n{schema.BEGIN}\nold\n{schema.END}\nafter\n")
    monkeypatch.setattr(schema, "PAGE", page)
    monkeypatch.setattr("sys.argv", ["schema", "--suite", str(suite), "--answers", "2", "--write"])
    assert schema.main() == 0
    table = capsys.readouterr().out
    assert "| draft7 | `minimum` | 3 | 1 | 100% | 100% | 1 | 100% | `uniqueItems` |" in table
    assert "| draft2020-12 | all | 3 | 1 | 100% |" in table
    assert page.read_text() == f"before\n{schema.BEGIN}\n{table}{schema.END}\nafter\n"


def test_no_suite(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["schema", "--suite", str(tmp_path)])
    assert schema.main() == 1
    assert "is no checkout of JSON-Schema-Test-Suite" in capsys.readouterr().err
