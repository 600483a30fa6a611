"""A real server under schemathesis: requests made of the OpenAPI document, good and bad ones (R13)."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import httpx

from tests.serving import LOOPBACK, ROOT, Served, serving

HTTP = "http"
"""The name of this target."""

_MIB = 1 << 20
_HANG = "10"  # seconds
_MOST_GROWTH = 64 * _MIB
_WARM_UP = {"model": "tinychat", "prompt": "Hi", "stream": False, "options": {"num_predict": 4}}
_CHECKS = (
    "fails_in_words",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "unsupported_method",
)


def fuzz_http(requests: int, minutes: float, seed: int) -> int:
    """Try so many requests, and more until time is up; returns the exit code."""
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        store = Path(folder) / "models"
        # Whoever is asked for a model outside is not there.
        with serving(store, HTTPS_PROXY="http://127.0.0.1:9", HTTP_PROXY="http://127.0.0.1:9") as server:
            httpx.post(f"{server.url}/api/generate", json=_WARM_UP, **LOOPBACK, timeout=60).raise_for_status()
            document = httpx.get(f"{server.url}/openapi.json", **LOOPBACK).json()
            operations = sum(map(len, document["paths"].values()))
            before = _memory(server)
            code = _schemathesis(server, store, requests // operations, minutes, seed)
            growth = _memory(server) - before
            alive = server.process.poll() is None
    print(f"http: exit code {code}, seed {seed}, the server grew by {growth / _MIB:.1f} MiB (at most 64)")
    return code or int(not alive) or int(growth > _MOST_GROWTH)


def _schemathesis(server: Served, store: Path, examples: int, minutes: float, seed: int) -> int:
    options = {
        "--checks": ",".join(_CHECKS),
        "--phases": "coverage,fuzzing",
        "--max-examples": str(examples),
        "--max-time": str(int(60 * minutes)),
        "--seed": str(seed),
        "--request-timeout": _HANG,
        "--suppress-health-check": "all",
        "--warnings": "off",
        "--workers": "2",
    }
    command = [sys.executable, "-m", "schemathesis.cli", "run", f"{server.url}/openapi.json"]
    arguments = [word for pair in options.items() for word in pair]
    environ = os.environ | {"PYTHONPATH": str(ROOT), "PRONK_FUZZ_STORE": str(store)}
    environ["SCHEMATHESIS_HOOKS"] = "tests.fuzz.http_hooks"
    command += [*arguments, "--continue-on-failure"]
    return subprocess.run(command, cwd=store.parent, env=environ, check=False).returncode


def _memory(server: Served) -> int:
    """Bytes of the server's process that are its own."""
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    fields = dict(line.split(":", 1) for line in status.splitlines())
    return sum(int(fields[name].split()[0]) << 10 for name in ("RssAnon", "VmSwap"))
