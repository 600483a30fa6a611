"""`pronk doctor` finds what is wrong with an installation, a store, an environment, and says what to do."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from engine.loading.state_folder import StateFolder
from registry.names import ModelName
from registry.storage.store import Store, StoredModel
from tests.cli.conftest import COMMAND, Pronk
from tests.cli.terminal import Terminal
from tests.serving import Served

NOWHERE = "http://user:secret@127.0.0.1:1"
NAMES = [
    *("library", "selftest", "devices", "processor", "memory", "container", "models", "store", "registry", "hub"),
    *("environment", "server"),
]


class Hub(BaseHTTPRequestHandler):
    """Answers everything with an empty object."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing."""


@pytest.fixture
def other_program() -> Iterator[str]:
    """The URL of a program that is no server of models."""
    with HTTPServer(("127.0.0.1", 0), Hub) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture
def models(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def tinychat(models: Path) -> StoredModel:
    """The bundled model in the store."""
    return Store(models).find(ModelName.parse("tinychat"))


@pytest.fixture
def patient(alone: Pronk, models: Path) -> Pronk:
    """The command with a store of its own, and with no way to any registry but through a proxy that is not there."""
    own = {
        "OLLAMA_MODELS": str(models),
        "HTTPS_PROXY": NOWHERE,
        "HF_ENDPOINT": "http://127.0.0.1:1",
        "HF_TOKEN": "hf_s",
    }
    return replace(alone, environ={**alone.environ, **own})


def examined(pronk: Pronk, *flags: str, **environ: str) -> tuple[int, dict[str, Any]]:
    """Exit code and JSON."""
    result = pronk("doctor", "--json", *flags, **environ)
    return result.returncode, json.loads(result.stdout)


def lines(pronk: Pronk, **environ: str) -> tuple[int, dict[str, list[str]]]:
    """Exit code, and the lines that begin with each name, with their level and without the name."""
    result = pronk("doctor", **environ)
    found: dict[str, list[str]] = {}
    for line in result.stdout.splitlines():
        level, name, *text = line.split(None, 2)
        found.setdefault(name, []).append(" ".join([level, *text]))
    assert "Traceback" not in result.stderr
    assert "secret" not in result.stdout + result.stderr
    assert "hf_s" not in result.stdout + result.stderr
    return result.returncode, found


def test_all_is_well(patient: Pronk, tinychat: StoredModel, other_program: str) -> None:
    code, found = lines(patient, HF_ENDPOINT=other_program)
    assert code == 0
    assert list(found) == NAMES
    assert found["library"][0].startswith("ok llama-cpp-python 0.3.36, compiled in: CPU: ")
    assert found["selftest"][0].startswith("ok the engine's self-test passed: Q8_0, ")
    assert found["store"][0].startswith("ok 1 model, 2 blobs, ")
    assert found["store"][0].endswith(", all digests right")
    assert found["registry"][0].startswith("note https://registry.ollama.ai/v2/ cannot be reached: ")
    assert found["hub"] == [f"ok {other_program} answers"]
    assert "HF_TOKEN=***" in found["environment"][0]
    assert found["server"] == ["note none runs at http://127.0.0.1:1"]


def test_a_flipped_bit(patient: Pronk, models: Path, tinychat: StoredModel) -> None:
    weights = Store(models).blob_path(tinychat.manifest.layers[0].digest)
    data = bytearray(weights.read_bytes())
    data[len(data) // 2] ^= 1
    weights.write_bytes(data)
    code, found = lines(patient)
    assert code == 1
    digest = tinychat.manifest.layers[0].digest
    assert found["store"][0].startswith("wrong 1 model, 2 blobs, ")
    assert found["store"][1].startswith(f"wrong {digest}, needed by tinychat:latest: its bytes have changed; ")
    assert f"delete {weights}, then pronk pull tinychat:latest" in found["store"][1]
    code, report = examined(patient, "--no-verify")
    assert code == 0
    assert report["checks"]["store"]["verified"] is False
    weights.unlink()
    code, report = examined(patient, "--no-verify")
    assert code == 1
    assert report["ok"] is False
    assert report["checks"]["store"]["damaged"] == [
        {"digest": str(digest), "fault": "missing", "models": ["tinychat:latest"]}
    ]


def test_a_manifest_that_cannot_be_read(patient: Pronk, models: Path, tinychat: StoredModel) -> None:
    folder = models / "manifests" / "registry.ollama.ai" / "library" / "broken"
    folder.mkdir()
    (folder / "latest").write_text("{")
    code, found = lines(patient)
    assert code == 1
    assert found["store"][1].startswith("wrong broken:latest: its manifest cannot be read (")
    assert found["store"][1].endswith("); pronk pull broken:latest or pronk rm broken:latest")
    assert found["store"][1].count("pull") == 1


def test_variables_that_nobody_reads(patient: Pronk) -> None:
    code, found = lines(patient, OLLAMA_KEEPALIVE="1h", PRONK_FOO="secret", OLLAMA_VULKAN="1", OLLAMA_MAX_QUEUE="lots")
    assert code == 1
    assert found["environment"][1:] == [
        "wrong invalid value of OLLAMA_MAX_QUEUE, using the default: 'lots'",
        "wrong OLLAMA_KEEPALIVE is not known; OLLAMA_KEEP_ALIVE is",
        "note PRONK_FOO is not known",
        "note OLLAMA_VULKAN changes nothing here",
    ]


@pytest.mark.parametrize("fault", ["raise ImportError('libllama.so: file too short')", "import os; os.abort()"])
def test_a_broken_library(patient: Pronk, tmp_path: Path, fault: str) -> None:
    (tmp_path / "llama_cpp").mkdir()
    (tmp_path / "llama_cpp" / "__init__.py").touch()
    (tmp_path / "llama_cpp" / "llama_cpp.py").write_text(fault)
    code, found = lines(patient, PYTHONPATH=f"{tmp_path}:{patient.environ['PYTHONPATH']}")
    assert code == 1
    assert list(found) == NAMES
    assert found["selftest"][0].startswith("wrong the engine's self-test ")
    assert found["selftest"][0].endswith("; `make engine` compiles it anew")
    assert "file too short" in found["selftest"][0] or "SIGABRT" in found["selftest"][0]
    assert found["library"][0].startswith("note llama-cpp-python 0.3.36")


def test_models_that_are_no_folder(patient: Pronk, models: Path) -> None:
    models.write_text("a file")
    code, found = lines(patient)
    assert code == 1
    assert found["models"] == [f"wrong {models} cannot be written: Not a directory"]
    assert not list(models.parent.glob("tmp*"))


def test_a_server_that_runs(pronk: Pronk, server: Served) -> None:
    own = {"OLLAMA_MODELS": str(server.store), "HTTPS_PROXY": NOWHERE, "HF_ENDPOINT": NOWHERE}
    code, report = examined(replace(pronk, environ={**pronk.environ, **own}))
    assert code == 0
    assert report["ok"] is True
    assert list(report["checks"]) == NAMES
    assert report["checks"]["server"]["running"] is True
    assert report["checks"]["server"]["version"] == "0.33.0"
    assert report["checks"]["hub"]["url"] == "http://***@127.0.0.1:1"
    assert report["checks"]["models"]["writable"] is True
    assert all({"level", "text", "problems", "notes"} <= set(check) for check in report["checks"].values())


def test_another_program_at_the_address(patient: Pronk, other_program: str) -> None:
    code, found = lines(patient, OLLAMA_HOST=other_program)
    assert code == 1
    assert found["server"] == [f"wrong another program answers at {other_program}"]


def test_a_bar_at_a_terminal(patient: Pronk, tinychat: StoredModel) -> None:
    with Terminal([*COMMAND, "doctor"], {**patient.environ, "COLUMNS": "200"}) as terminal:
        terminal.expect("comparing digests")
        terminal.expect("all digests right")
        terminal.expect("none runs at")
        assert terminal.leave() == 0


def test_a_file_of_certificates_that_is_not_there(patient: Pronk, tinychat: StoredModel) -> None:
    code, report = examined(patient, "--no-verify", SSL_CERT_FILE="/no/such/file")
    assert code == 1
    assert report["checks"]["environment"]["problems"] == ["SSL_CERT_FILE names what is not there: '/no/such/file'"]


def test_prompts_on_disk(patient: Pronk, tinychat: StoredModel, tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    states = StateFolder(folder, 1 << 20)
    states.open_for("1" * 64)
    pending = states.begin("1" * 64, f"{1:016x}-{1:032x}.state", 5)
    assert pending is not None
    pending.write(memoryview(b"state"))
    assert pending.publish()
    pending.close()
    _, report = examined(patient, "--no-verify", PRONK_PROMPT_CACHE_DISK=f"{folder}:1MiB")
    found = report["checks"]["prompts"]
    assert found["text"] == f"{folder}: 1 state, 5 bytes of 1.0 MiB"
    assert (found["states"], found["bytes"], found["limit"], found["writable"]) == (1, 5, 1 << 20, True)
    states.close()
    _, told = lines(patient, PRONK_PROMPT_CACHE_DISK=f"{tmp_path}/none:1MiB")
    assert told["prompts"] == [f"ok {tmp_path}/none: 0 states, 0 bytes of 1.0 MiB"]
    (tmp_path / "file").write_text("")
    _, told = lines(patient, PRONK_PROMPT_CACHE_DISK=f"{tmp_path}/file:1MiB")
    assert told["prompts"][0].startswith("note ")
    assert told["prompts"][0].endswith("prompts are not kept on disk")
