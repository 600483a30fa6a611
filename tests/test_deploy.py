"""What `deploy/` has for Grafana and Prometheus names metrics and labels that exist."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import yaml

from server.metrics import FAMILIES
from tests.serving import ROOT

DEPLOY = ROOT / "deploy"
SUFFIXES = {"histogram": ("_bucket", "_sum", "_count"), "summary": ("_sum", "_count")}
LABELS = {
    family.name + suffix: {*family.labels, "job", "instance", *(["le"] if suffix == "_bucket" else [])}
    for family in FAMILIES
    for suffix in SUFFIXES.get(family.kind, ("",))
}
_SELECTOR = re.compile(r"\b(pronk_\w+)(?:\{([^}]*)\})?")
_MATCHER = re.compile(r'(\w+)(?:=~|!~|!=|=)"')
_BY = re.compile(r"\bby \(([\w, ]+)\)\s+\((?:\w+\()?(pronk_\w+)")


def dashboard() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((DEPLOY / "grafana/pronk.json").read_text())
    return found


def rules() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load((DEPLOY / "pronk-alerts.yml").read_text())["groups"]
    found: list[dict[str, Any]] = group["rules"]
    return found


def expressions() -> list[str]:
    panels = dashboard()["panels"]
    return [target["expr"] for panel in panels for target in panel["targets"]] + [rule["expr"] for rule in rules()]


@pytest.mark.parametrize("expression", expressions())
def test_every_metric_is_there(expression: str) -> None:
    names = _SELECTOR.findall(expression)
    assert names or expression.startswith("up{")
    for name, matchers in names:
        assert name in LABELS
        assert set(_MATCHER.findall(matchers)) <= LABELS[name]
    assert expression.count("by (") == len(_BY.findall(expression))
    for labels, name in _BY.findall(expression):
        grouped = {label.strip() for label in labels.split(",")}
        assert grouped <= LABELS[name]
        assert ("le" in grouped) is name.endswith("_bucket")
    assert expression.count("(") == expression.count(")")


def test_a_name_that_is_wrong_is_noticed() -> None:
    assert "pronk_http_requests" not in LABELS
    assert "pronk_time_to_first_token_seconds" not in LABELS


def test_panels_are_whole() -> None:
    panels = dashboard()["panels"]
    places = {(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels}
    assert len(places) == len({panel["id"] for panel in panels}) == len({panel["title"] for panel in panels})
    assert all(panel["datasource"]["uid"] == "${datasource}" for panel in panels)


def test_prometheus_finds_the_rules() -> None:
    config = yaml.safe_load((DEPLOY / "prometheus.yml").read_text())
    assert [(DEPLOY / name).is_file() for name in config["rule_files"]] == [True]
    (job,) = config["scrape_configs"]
    assert job["static_configs"][0]["targets"] == ["127.0.0.1:11434"]
    assert all(f'job="{job["job_name"]}"' in rule["expr"] for rule in rules())
    names = [rule["alert"] for rule in rules()]
    assert len(names) == len(set(names)) == 5
    for rule in rules():
        assert re.fullmatch(r"\d+m", rule["for"])
        assert rule["labels"]["severity"] in ("critical", "warning")
        used = set(re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"]))
        grouped = {label.strip() for labels, _ in _BY.findall(rule["expr"]) for label in labels.split(",")}
        assert used <= (grouped or {"instance"})
