"""What is far too large for a model is answered in words, and harms nobody beside it."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.processes import descendants
from tests.serving import GREEDY, LOOPBACK, PATIENCE, Served

ONE = {"model": "tinychat", "stream": False, "options": GREEDY}
TEXT = "0 1 2 3 4 5 6 7 " * (1 << 18)  # 4 MiB
LARGE: dict[str, tuple[str, dict[str, Any], int]] = {
    "prompt": ("/api/generate", {"prompt": f"{TEXT} and more", "raw": True}, 400),
    "prompt through a template": ("/api/generate", {"prompt": f"{TEXT} and more"}, 400),
    "message": ("/api/chat", {"messages": [{"role": "user", "content": f"{TEXT} and more"}]}, 400),
    "conversation": ("/api/chat", {"messages": [{"role": "user", "content": TEXT[:512]}] * 4000}, 200),
    "context": ("/api/generate", {"prompt": "Hi", "context": [2037] * 700_000}, 200),
    "context of no tokens": ("/api/generate", {"prompt": "Hi", "context": [-1, 1 << 31, 1 << 62]}, 200),
    "text to embed": ("/api/embed", {"input": f"{TEXT} and more"}, 200),
    "texts to embed": ("/api/embed", {"input": ["x"] * 20_000}, 400),
}


@pytest.mark.parametrize("name", LARGE)
def test_too_large(server: Served, name: str) -> None:
    path, body, status = LARGE[name]
    with httpx.Client(base_url=server.url, **LOOPBACK, timeout=PATIENCE) as client:
        client.post("/api/generate", json={**ONE, "prompt": "Hi"}).raise_for_status()
        children = {child.pid for child in descendants(server.process.pid, "engine.runner")}
        story = {**ONE, "stream": True, "prompt": "Write a long story.", "options": {"num_predict": 200}}
        with client.stream("POST", "/api/generate", json=story) as other:
            lines = other.iter_lines()
            next(lines)
            answer = client.post(path, json={**ONE, **body})
            assert answer.status_code == status, answer.text[:500]
            assert status == 200 or "error" in answer.json()
            *_, last = lines
    assert '"done":true' in last
    assert children <= {child.pid for child in descendants(server.process.pid, "engine.runner")}
