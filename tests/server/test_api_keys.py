"""API keys on a real server: made and revoked while it runs, and whose prompts are cached for whom."""

import os
import re
import subprocess
import sys
from pathlib import Path

import httpx

from server.http.keys import KeyFile
from tests.serving import LOOPBACK, PATIENCE, Served, serving

PROMPT = "Tell me, please, what the longest river of the world is called, and where it ends. " * 3


def cached(served: Served, text: str) -> int:
    """Tokens of the prompt that were in the cache."""
    body = {"model": "tinychat", "prompt": PROMPT, "stream": False, "options": {"num_predict": 1}}
    headers = {"Authorization": f"Bearer {text}"}
    answer = httpx.post(f"{served.url}/api/generate", json=body, headers=headers, timeout=PATIENCE, **LOOPBACK)
    answer.raise_for_status()
    return int(answer.json().get("prompt_eval_cached_count", 0))


def test_keys_of_a_running_server(tmp_path: Path) -> None:
    file = KeyFile(tmp_path / "api_keys.json")
    with serving(tmp_path / "models") as served:
        assert httpx.get(f"{served.url}/api/tags", **LOOPBACK).status_code == 200
        first, second = file.add("first", ["infer"]), file.add("second", ["infer"])
        assert httpx.get(f"{served.url}/api/tags", **LOOPBACK).status_code == 401
        assert cached(served, first) == 0
        assert cached(served, first) > 0
        assert cached(served, second) == 0
        file.revoke("first")
        answer = httpx.post(f"{served.url}/api/generate", headers={"X-Api-Key": first}, json={}, **LOOPBACK)
        assert answer.status_code == 401
        headers = {"X-Api-Key": second}
        assert httpx.get(f"{served.url}/api/tags", headers=headers, **LOOPBACK).status_code == 403
        log = served.log.read_text()
    for path, status in ("/api/generate", 200), ("/api/tags", 403):
        assert re.search(f"request .*path='{path}' status={status} .*key=second", log)
    assert first not in log
    assert second not in log


def test_a_server_that_must_have_keys(tmp_path: Path) -> None:
    environ = os.environ | {"OLLAMA_MODELS": str(tmp_path / "models"), "PRONK_REQUIRE_API_KEYS": "1"}
    environ |= {"PRONK_API_KEYS_FILE": str(tmp_path / "api_keys.json"), "OLLAMA_HOST": "127.0.0.1:0"}
    command = [sys.executable, "-m", "server.main"]
    result = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert result.returncode == 1
    last = result.stderr.splitlines()[-1]
    assert last.startswith(
        "Error: PRONK_REQUIRE_API_KEYS is set, and there is no API key; make one: pronk keys add NAME"
    )
