"""The files for Docker Compose and systemd name what exists."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from server.settings import Settings
from tests.outside import if_installed
from tests.serving import ROOT

UNIT = ROOT / "deploy/pronk.service"
STORE = ROOT / "deploy/ollama-store.conf"
DOCKERFILE = (ROOT / "Dockerfile").read_text()
ENVIRONMENT = (ROOT / "docs/environment.md").read_text()


def compose(name: str) -> dict[str, Any]:
    file: dict[str, Any] = yaml.safe_load((ROOT / name).read_text())
    return file


def unit() -> dict[str, list[str]]:
    """The values of each key, in the order of the file."""
    values: dict[str, list[str]] = {}
    for key, value in re.findall(r"^(\w+)=(.*)$", UNIT.read_text(), re.MULTILINE):
        values.setdefault(key, []).append(value)
    return values


def test_compose_runs_the_image() -> None:
    file = compose("compose.yaml")
    service = file["services"]["pronk"]
    [volume] = service["volumes"]
    source, _, target = volume.partition(":")
    assert source in file["volumes"]
    assert f"VOLUME {target}\n" in DOCKERFILE
    [port] = service["ports"]
    assert f"EXPOSE {port.rpartition(':')[2]}\n" in DOCKERFILE
    assert service["read_only"] is True
    assert service["tmpfs"] == ["/tmp"]
    assert all(f"`{name}`" in ENVIRONMENT for name in service["environment"])


def test_compose_for_nvidia_changes_the_same_service() -> None:
    service = compose("deploy/compose.nvidia.yaml")["services"]["pronk"]
    assert all(f"ARG {name}" in DOCKERFILE for name in service["build"]["args"])
    document = (ROOT / "docs/docker.md").read_text()
    assert all(str(value) in document for value in service["build"]["args"].values())
    [device] = service["deploy"]["resources"]["reservations"]["devices"]
    assert (device["driver"], device["capabilities"]) == ("nvidia", ["gpu"])


def test_the_unit_keeps_all_in_its_state() -> None:
    values = unit()
    environ = dict(entry.split("=", 1) for entry in values["Environment"])
    settings = Settings.from_env(environ)
    [state] = values["StateDirectory"]
    for folder in (settings.models_folder, settings.keys_folder, settings.keys_file):
        assert folder.is_relative_to(f"/var/lib/{state}")
    assert all(f"`{name}`" in ENVIRONMENT for name in environ if name != "HOME")
    assert values["ExecStart"] == ["/opt/pronk/bin/pronk serve"]


def test_the_store_of_ollama_is_taken_as_its_user() -> None:
    settings = dict(re.findall(r"^(\w+)=(.*)$", STORE.read_text(), re.MULTILINE))
    environ = dict(re.findall(r"^Environment=(\w+)=(.*)$", STORE.read_text(), re.MULTILINE))
    read = Settings.from_env(environ)
    for folder in (read.models_folder, read.keys_folder, read.keys_file):
        assert folder.is_relative_to(settings["ReadWritePaths"])
    assert {settings["User"], settings["Group"]} == {"ollama"}
    document = (ROOT / "docs/migration.md").read_text()
    assert str(read.models_folder) in document
    assert f"deploy/{STORE.name} /etc/systemd/system/{UNIT.name}.d/" in document


@pytest.mark.parametrize("stored_by_ollama", [False, True])
def test_systemd_takes_the_unit(tmp_path: Path, stored_by_ollama: bool) -> None:
    [program] = if_installed("systemd-analyze")
    copy = tmp_path / UNIT.name
    if stored_by_ollama:
        (tmp_path / f"{UNIT.name}.d").mkdir()
        shutil.copy(STORE, tmp_path / f"{UNIT.name}.d")
    # What is started must exist.
    copy.write_text(UNIT.read_text().replace("/opt/pronk/bin/pronk", "/bin/true"))
    done = subprocess.run([program, "verify", copy], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    rated = subprocess.run(
        [program, "security", "--offline=true", "--threshold=20", copy], capture_output=True, text=True, check=False
    )
    assert rated.returncode == 0, rated.stdout + rated.stderr


def test_the_document_names_what_exists() -> None:
    text = (ROOT / "docs/deploy.md").read_text()
    variables = set(re.findall(r"\b(?:OLLAMA|PRONK)_[A-Z_]+", text))
    assert len(variables) >= 4
    assert all(f"`{name}`" in ENVIRONMENT for name in variables)
    files = set(re.findall(r"\b(?:deploy/)?[\w.]+\.(?:yaml|conf|service)\b|\bdeploy/Caddyfile", text))
    assert {"compose.yaml", "deploy/pronk.service", "deploy/nginx.conf", "deploy/Caddyfile"} <= files
    assert all((ROOT / name).is_file() for name in files)
